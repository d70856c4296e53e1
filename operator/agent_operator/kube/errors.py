"""Errors of requests to the Kubernetes API."""

from http import HTTPStatus

from agent_operator.manifests.document import Document

# What the admission plugin OwnerReferencesPermissionEnforcement (on in OpenShift) refuses children with for up to half
# a minute after the definition of their owner was installed: it reads the definitions anew that often (kube-apiserver,
# admission's start hook).
NOT_KNOWN_YET = "cannot find RESTMapping"


_PASSING = frozenset(
    {HTTPStatus.UNAUTHORIZED, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}
)


class NoClusterError(Exception):
    """There is no configuration of a cluster, or it cannot be used. The message says what to do."""


class UnreachableError(Exception):
    """The API server did not answer."""


class ProxyFailedError(UnreachableError):
    """The proxy before the API server failed. The message has its address, and what to do."""


class ApiError(Exception):
    """The API server refused a request (Kubernetes API conventions: "Response Status Kind").

    `retry_after` has the seconds after which it wants to be asked again, if it said so.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        causes: frozenset[str] = frozenset(),
        body: Document | None = None,
        *,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.causes = causes
        self.code = code
        self.reason = reason
        self.message = message
        self.body: Document = body or {}
        self.retry_after = retry_after

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed soon: the server is busy, or an object was changed meanwhile."""
        busy = self.code in _PASSING or self.code >= HTTPStatus.INTERNAL_SERVER_ERROR
        return busy or NOT_KNOWN_YET in self.message


class NotLeadingError(Exception):
    """A write was not sent, because another operator may lead by now."""
