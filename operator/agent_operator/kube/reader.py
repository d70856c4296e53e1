"""Reads from the Kubernetes API: one object, a list page by page, and what is served."""

from collections.abc import AsyncIterator
from http import HTTPStatus

from agent_operator.kube.connection import JSON, Connection
from agent_operator.kube.errors import ApiError
from agent_operator.kube.resources import Resource
from agent_operator.manifests.document import Document

# Objects of one page of a list. Each may have 1.5 MiB, as much as etcd takes.
PAGE = 50

# The object's metadata alone (Kubernetes API concepts: "Metadata-only fetches"): of a Secret no content is sent.
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


class Reader:
    """Reads of one connection. Each raises ApiError and UnreachableError."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(
        self, resource: Resource, namespace: str, name: str, *, metadata_only: bool = False
    ) -> Document | None:
        """Return the object, or its metadata alone, or None if there is none."""
        accept = METADATA_ONLY if metadata_only else JSON
        try:
            answer = await self._connection.request("GET", resource.path(namespace, name), accept=accept)
        except ApiError as error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise
            return None
        return answer.body

    async def pages(
        self, resource: Resource, namespace: str | None, **query: str
    ) -> AsyncIterator[tuple[list[Document], str]]:
        """Yield the objects of a kind, in one namespace or in all, page by page with the list's resourceVersion.

        Args:
            resource: the kind.
            namespace: None for all namespaces.
            query: what picks some of them, such as `labelSelector`.
        """
        asked = {"limit": str(PAGE), **query}
        api_version = f"{resource.group}/{resource.version}".removeprefix("/")
        while True:
            page = (await self._connection.request("GET", resource.path(namespace), query=asked)).body
            # A list says once what all its items are.
            items = [{"apiVersion": api_version, "kind": resource.kind, **item} for item in page.get("items") or []]
            metadata = page.get("metadata") or {}
            yield items, metadata.get("resourceVersion", "")
            if not metadata.get("continue"):
                return
            asked["continue"] = metadata["continue"]

    async def list(self, resource: Resource, namespace: str | None, **query: str) -> list[Document]:
        """Return the objects of a kind, in one namespace or in all, that the query picks."""
        return [item async for items, _ in self.pages(resource, namespace, **query) for item in items]

    async def is_served(self, resource: Resource) -> bool:
        """Return whether the kind can be listed and watched (Kubernetes: "API discovery")."""
        try:
            answer = await self._connection.request("GET", f"/apis/{resource.group}/{resource.version}")
        except ApiError as error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise
            return False
        found = (each for each in answer.body.get("resources") or [] if each.get("name") == resource.plural)
        return any("watch" in (each.get("verbs") or []) for each in found)
