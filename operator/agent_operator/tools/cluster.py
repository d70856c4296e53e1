"""Access to the cluster with the user's kubeconfig and permissions, and errors as sentences."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus

from kubernetes.aio import client

from agent_operator.kube import kubeconfig
from agent_operator.kube.connection import APPLY, CONNECTIONS, Connection
from agent_operator.kube.errors import ApiError, ProxyFailedError, UnreachableError
from agent_operator.kube.kubeconfig import KubeconfigError, LoginError, NoContextError
from agent_operator.kube.reader import Reader
from agent_operator.kube.resources import Resource
from agent_operator.manifests.document import Document
from agent_operator.tools.errors import ToolError

# A user waits at the terminal, and can retry.
ANSWER_SECONDS = 20.0


@dataclass(frozen=True)
class Target:
    """What a tool reads: kubeconfig file, context and namespace, as set by the user; None is the default."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None


class Access(Reader):
    """Reads and dry runs with the user's permissions. No request changes the cluster."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        super().__init__(connection)
        self.namespace = namespace

    async def read(self, path: str) -> Document:
        """Return the JSON response of the API server to a GET of the path. Raises ApiError and UnreachableError."""
        return (await self.connection.request("GET", path)).body

    def stream(self, path: str, query: Mapping[str, str]) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Return a context with the chunks of a response that may take forever. Raises ApiError, UnreachableError."""
        return self.connection.stream(path, query)

    async def dry_run(
        self, resource: Resource, document: Document, manager: str, content_type: str = APPLY
    ) -> tuple[Document, bool]:
        """Return the object as a PATCH by this field manager would leave it, and whether that would create it."""
        metadata = document["metadata"]
        force = {"force": "true"} if content_type == APPLY else {}
        answer = await self.connection.request(
            "PATCH",
            resource.path(metadata["namespace"], metadata["name"]),
            query={"fieldManager": manager, "dryRun": "All", "fieldValidation": "Strict", **force},
            body=document,
            content_type=content_type,
        )
        return answer.body, answer.code == HTTPStatus.CREATED


@asynccontextmanager
async def access(
    target: Target, *, connections: int = CONNECTIONS, seconds: float = ANSWER_SECONDS
) -> AsyncIterator[Access]:
    """Yield access to the cluster that the user selected. Raises ToolError, also for failed requests of the body.

    `connections` is the maximum number of requests at a time; 0 means no limit. `seconds` limits each request.
    """
    settings, namespace = await _configuration(target)
    try:
        async with Connection(settings, seconds=seconds, log_in=None, connections=connections) as connection:
            yield Access(connection, target.namespace or namespace)
    except ProxyFailedError as error:
        raise ToolError(f"{error}.") from error
    except UnreachableError as error:
        raise ToolError(f"{error}. Check that the cluster is up, and that your kubeconfig names it.") from error
    except ApiError as error:
        raise ToolError(explained(error)) from error


def explained(error: ApiError) -> str:
    """Return a refusal as a sentence that explains what to do."""
    if error.code == HTTPStatus.UNAUTHORIZED:
        return "The cluster refused your credentials: log in again, or check the user of your kubeconfig's context."
    if error.code == HTTPStatus.FORBIDDEN:
        return f"You do not have permission: {error.message}. Request it, or use another --context."
    return f"The API server refused the request: {error.message}"


async def _configuration(target: Target) -> tuple[client.Configuration, str]:
    """Return the connection settings and the context's namespace. A pod without kubeconfig uses its own account."""
    files = kubeconfig.chosen_files(target.kubeconfig)
    shown = ", ".join(map(str, files))
    try:
        if kubeconfig.in_cluster() and not (target.kubeconfig or target.context):
            return kubeconfig.load_in_cluster(), "default"
        if not any(each.exists() for each in files):
            raise ToolError(f"No kubeconfig found at {shown}. Specify one with --kubeconfig or KUBECONFIG.")
        chosen = await kubeconfig.load(files, target.context)
    except LoginError as error:
        raise ToolError(f"Could not log in to the cluster of {shown}: {error}.") from error
    except NoContextError as error:
        raise ToolError(f"{shown} has no context {error.context}: see `kubectl config get-contexts`.") from error
    except KubeconfigError as error:
        raise ToolError(
            f"{shown} does not specify a usable cluster ({error}). Specify another with --kubeconfig or KUBECONFIG."
        ) from error
    return chosen.settings, chosen.namespace
