"""The cluster as the user of a tool reaches it: their kubeconfig, their rights; and errors as sentences."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from kubernetes.aio import client, config
from kubernetes.aio.config import ConfigException

from agent_operator.controller.apply import PAGE
from agent_operator.controller.connection import APPLY, JSON, ApiError, Connection, UnreachableError
from agent_operator.controller.resources import Resource
from agent_operator.manifests.form import Document
from agent_operator.tools.errors import ToolError

# People wait at a terminal, and can try again.
ANSWER_SECONDS = 20.0

UNAUTHORIZED = 401
FORBIDDEN = 403
NOT_FOUND = 404

# The object's metadata alone (Kubernetes API concepts: "Metadata-only fetches"): of a Secret no content is sent.
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


@dataclass(frozen=True)
class Place:
    """Where a tool looks: kubeconfig file, context and namespace, as the user gave them; None is the usual one."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None


class Access:
    """Reads and dry runs, with the user's rights. Nothing that is sent here changes anything."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self.connection = connection
        self.namespace = namespace

    async def get(
        self, resource: Resource, namespace: str, name: str, *, metadata_only: bool = False
    ) -> Document | None:
        """The object, or its metadata alone; None when there is none. Raises ApiError and UnreachableError."""
        accept = METADATA_ONLY if metadata_only else JSON
        try:
            answer = await self.connection.request("GET", resource.path(namespace, name), accept=accept)
        except ApiError as error:
            if error.code != NOT_FOUND:
                raise
            return None
        return answer.body

    async def list(self, resource: Resource, namespace: str | None, **query: str) -> list[Document]:
        """The objects of a kind, in one namespace or in all, that the query (`labelSelector`, say) picks."""
        asked = {"limit": str(PAGE), **query}
        api_version = f"{resource.group}/{resource.version}".removeprefix("/")
        items: list[Document] = []
        while True:
            page = (await self.connection.request("GET", resource.path(namespace), query=asked)).body
            items += [{"apiVersion": api_version, "kind": resource.kind, **item} for item in page.get("items") or []]
            token = page.get("metadata", {}).get("continue")
            if not token:
                return items
            asked["continue"] = token

    async def read(self, path: str) -> Document:
        """What the API server answers to a GET of that path, as JSON. Raises ApiError and UnreachableError."""
        return (await self.connection.request("GET", path)).body

    async def dry_run(
        self, resource: Resource, document: Document, manager: str, content_type: str = APPLY
    ) -> tuple[Document, bool]:
        """The object as it would be after a PATCH by this field manager, and whether that would create it."""
        metadata = document["metadata"]
        force = {"force": "true"} if content_type == APPLY else {}
        answer = await self.connection.request(
            "PATCH",
            resource.path(metadata["namespace"], metadata["name"]),
            query={"fieldManager": manager, "dryRun": "All", "fieldValidation": "Strict", **force},
            body=document,
            content_type=content_type,
        )
        return answer.body, answer.code == 201  # noqa: PLR2004  HTTP's "created"


@asynccontextmanager
async def access(place: Place) -> AsyncIterator[Access]:
    """A way to the cluster that the user means. Raises ToolError, also for what the body could not do there."""
    settings, namespace = await _configuration(place)
    try:
        async with Connection(settings, seconds=ANSWER_SECONDS, log_in=None) as connection:
            yield Access(connection, place.namespace or namespace)
    except UnreachableError as error:
        raise ToolError(f"{error}. Check that the cluster is up, and that your kubeconfig names it.") from error
    except ApiError as error:
        raise ToolError(said(error)) from error


async def is_served(cluster: Access, resource: Resource) -> bool:
    """Whether the cluster has the kind (Kubernetes: "API discovery"). Raises ApiError and UnreachableError."""
    try:
        answer = await cluster.read(f"/apis/{resource.group}/{resource.version}")
    except ApiError as error:
        if error.code != NOT_FOUND:
            raise
        return False
    return any(each.get("name") == resource.plural for each in answer.get("resources") or [])


def said(error: ApiError) -> str:
    """A refusal in words that say what to do."""
    if error.code == UNAUTHORIZED:
        return "The cluster refused your credentials: log in again, or check the user of your kubeconfig's context."
    if error.code == FORBIDDEN:
        return f"You lack a permission: {error.message}. Ask for it, or use another --context."
    return f"The API server refused: {error.message}"


async def _configuration(place: Place) -> tuple[client.Configuration, str]:
    """The connection's settings, and the namespace of the context. A pod without a kubeconfig uses its own account."""
    # The client warns of a missing file, and then raises an error for it all the same.
    logging.getLogger("kubernetes").setLevel(logging.ERROR)
    settings = client.Configuration()
    file = place.kubeconfig or os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    in_a_pod = bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
    try:
        if in_a_pod and not (place.kubeconfig or place.context or os.environ.get("KUBECONFIG")):
            config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
            return settings, "default"
        await config.load_kube_config(  # type: ignore[no-untyped-call]
            config_file=file, context=place.context, client_configuration=settings, persist_config=False
        )
        return settings, _namespace(file, place.context)
    # What the client makes of a file that is no kubeconfig, besides its own error.
    except (ConfigException, OSError, ValueError, TypeError, AttributeError, KeyError, yaml.YAMLError) as error:
        raise ToolError(_no_cluster(file, place.context, error)) from error


def _no_cluster(file: str, context: str | None, error: Exception) -> str:
    if not any(Path(each).exists() for each in file.split(os.pathsep)):
        return f"No cluster to talk to: there is no file {file}. Give one with --kubeconfig or KUBECONFIG."
    if context and isinstance(error, ConfigException) and context in str(error):
        return f"{file} has no context {context}: see `kubectl config get-contexts`."
    words = " ".join(str(error).split()) if isinstance(error, ConfigException) else "it is no kubeconfig"
    return f"{file} names no cluster to talk to ({words}). Give another with --kubeconfig or KUBECONFIG."


def _namespace(files: str, context: str | None) -> str:
    """The namespace of the context: that named, else the current one, as the client finds it in several files."""
    loaded = [yaml.safe_load(Path(each).read_text()) for each in files.split(os.pathsep) if Path(each).exists()]
    current = next((each["current-context"] for each in reversed(loaded) if each.get("current-context")), None)
    contexts = [each for config_file in loaded for each in config_file.get("contexts") or []]
    chosen: dict[str, str] = next((each["context"] for each in contexts if each["name"] == (context or current)), {})
    return chosen.get("namespace") or "default"
