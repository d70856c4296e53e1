"""Reads from the Kubernetes API: one object, a list page by page, and the kinds that are served."""

from collections.abc import AsyncIterator
from http import HTTPStatus

from agent_operator.kube.connection import JSON, Connection
from agent_operator.kube.errors import ApiError
from agent_operator.kube.resources import Resource
from agent_operator.manifests.document import Document

# Objects per page of a list. Each may have 1.5 MiB, the limit of etcd.
PAGE = 50

# Only the object's metadata (Kubernetes API concepts: "Metadata-only fetches"): the content of a Secret is not sent.
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


class Reader:
    """Reads over one connection. Each raises ApiError and UnreachableError."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def get(
        self, resource: Resource, namespace: str, name: str, *, metadata_only: bool = False
    ) -> Document | None:
        """Return the object, or only its metadata; None if it does not exist."""
        accept = METADATA_ONLY if metadata_only else JSON
        try:
            answer = await self.connection.request("GET", resource.path(namespace, name), accept=accept)
        except ApiError as error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise
            return None
        return answer.body

    async def pages(
        self, resource: Resource, namespace: str | None, **query: str
    ) -> AsyncIterator[tuple[list[Document], str]]:
        """Yield pages of the objects of a kind, in one namespace or in all, each with the list's resourceVersion.

        Args:
            resource: the kind.
            namespace: None for all namespaces.
            query: parameters that select some of the objects, such as `labelSelector`.
        """
        asked = {"limit": str(PAGE), **query}
        api_version = f"{resource.group}/{resource.version}".removeprefix("/")
        while True:
            page = (await self.connection.request("GET", resource.path(namespace), query=asked)).body
            # A list has the type of its items only once.
            items = [{"apiVersion": api_version, "kind": resource.kind, **item} for item in page.get("items") or []]
            metadata = page.get("metadata") or {}
            yield items, metadata.get("resourceVersion", "")
            if not metadata.get("continue"):
                return
            asked["continue"] = metadata["continue"]

    async def list(self, resource: Resource, namespace: str | None, **query: str) -> list[Document]:
        """Return the objects of a kind, in one namespace or in all, that the query selects."""
        return [item async for items, _ in self.pages(resource, namespace, **query) for item in items]

    async def is_served(self, resource: Resource) -> bool:
        """Return whether the kind can be listed and watched (Kubernetes: "API discovery")."""
        try:
            answer = await self.connection.request("GET", f"/apis/{resource.group}/{resource.version}")
        except ApiError as error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise
            return False
        found = (each for each in answer.body.get("resources") or [] if each.get("name") == resource.plural)
        return any("watch" in (each.get("verbs") or []) for each in found)
