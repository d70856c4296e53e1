"""Errors of requests to the Kubernetes API."""

from http import HTTPStatus

from agent_operator.manifests.document import Document

# The admission plugin OwnerReferencesPermissionEnforcement (enabled in OpenShift) refuses children with this message
# for up to half a minute after the definition of their owner was installed, because it reloads the definitions at that
# interval (kube-apiserver, admission's start hook).
NOT_KNOWN_YET = "cannot find RESTMapping"


_PASSING = frozenset(
    {HTTPStatus.UNAUTHORIZED, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}
)


class NoClusterError(Exception):
    """There is no cluster configuration, or it cannot be used. The message explains what to do."""


class UnreachableError(Exception):
    """The API server did not respond."""


class ProxyFailedError(UnreachableError):
    """The proxy in front of the API server failed. The message contains its address and what to do."""


class ApiError(Exception):
    """The API server refused a request (Kubernetes API conventions: "Response Status Kind").

    `retry_after` is the number of seconds after which the server asks for a retry, if it sent one.
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
        """Whether the same request may succeed soon: the server is busy, or an object was changed in the meantime."""
        busy = self.code in _PASSING or self.code >= HTTPStatus.INTERNAL_SERVER_ERROR
        return busy or NOT_KNOWN_YET in self.message


class NotLeadingError(Exception):
    """A write was not sent because another operator may be the leader by now."""
