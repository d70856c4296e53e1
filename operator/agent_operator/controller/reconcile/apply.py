"""The reconciler's only writes to the cluster (server-side apply, one field manager), and the few reads of a plan."""

import base64
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import structlog

from agent_operator.api.agent import API_VERSION, KIND
from agent_operator.controller.metrics import Metrics
from agent_operator.controller.reconcile.adoption import CONSENT, handed_over
from agent_operator.controller.reconcile.steps import Apply, Delete
from agent_operator.kube.conditions import timestamp
from agent_operator.kube.connection import APPLY, MERGE, Connection
from agent_operator.kube.drift import FIELD_MANAGER, HANDOVER_MANAGER, reclaimed
from agent_operator.kube.errors import ApiError
from agent_operator.kube.reader import Reader
from agent_operator.kube.resources import AGENT, BY_KIND, EVENT, SECRET, Key, Resource
from agent_operator.manifests.document import Document

log = structlog.get_logger(__name__)

# This manager only reads: all its requests are dry runs.
READING_MANAGER = "portside-operator-look"

DRY_RUN = {"dryRun": "All"}
# The API server limits an Event's message to this length (core/v1 validation).
EVENT_MESSAGE = 1024
# The resourceVersion of an empty etcd, which no object has. If the object exists, the API server compares the versions
# and rejects the apply (409); if not, it ignores this one and creates the object. Such an apply can only create.
NOTHING_YET = "1"


class Cluster(Reader):
    """Reads and writes the objects of agents."""

    def __init__(self, connection: Connection, metrics: Metrics) -> None:
        super().__init__(connection)
        self._metrics = metrics

    async def watched(self, resource: Resource, namespace: str | None) -> AsyncIterator[tuple[list[Document], str]]:
        """Yield the watched objects, in one namespace or in all, page by page with the list's resourceVersion."""
        query = {"labelSelector": resource.selector} if resource.selector else {}
        async for page in self.pages(resource, namespace, **query):
            yield page

    async def read_secret(self, namespace: str, name: str) -> Document | None:
        """Return the Secret with its content as text under `stringData`, or None, without permission to read Secrets.

        A dry run of an empty apply returns the object as it is; for a missing object the response is 201 Created.
        """
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}}
        answer = await self.connection.request(
            "PATCH",
            SECRET.path(namespace, name),
            query={"fieldManager": READING_MANAGER, "dryRun": "All"},
            body=body,
            content_type=APPLY,
        )
        if answer.code == HTTPStatus.CREATED:
            return None
        metadata = answer.body["metadata"]
        shares = [share for share in metadata.get("managedFields") or [] if share.get("manager") != READING_MANAGER]
        return _readable({**body, **answer.body, "metadata": {**metadata, "managedFields": shares}})

    async def pod_events(self, namespace: str, pod: str) -> Sequence[Document]:
        """Return the Events about the pod; none if the operator lacks permission to list Events."""
        query = {"fieldSelector": f"involvedObject.kind=Pod,involvedObject.name={pod}", "limit": "100"}
        try:
            page = (await self.connection.request("GET", EVENT.path(namespace), query=query)).body
        except ApiError as error:
            if error.code != HTTPStatus.FORBIDDEN:
                raise
            # Without this permission everything works except naming missing Secrets.
            log.warning("Lacked permission to list Events", namespace=namespace, pod=pod, error=str(error))
            return []
        return [*(page.get("items") or [])]

    async def apply(self, step: Apply) -> Document:
        """Apply a document of a plan, and return the resulting object.

        An object assumed missing is only created: if it exists after all, the apply fails with a conflict (409) and
        leaves the object unchanged. If foreign changes are incompatible with the document (such as a renumbered port
        of a Service), the object's lists are replaced as a whole.
        """
        if step.keep_replicas is not None:
            await self._hand_over_replicas(step.document, step.keep_replicas)
        if step.taken_over is not None:
            await self._take_over(step, step.taken_over)
        if any(each.manager for each in step.foreign):
            await self._reclaim(step)
        try:
            document = await self._patch(step)
        except ApiError as error:
            if error.code != HTTPStatus.UNPROCESSABLE_ENTITY or step.operation != "update":
                raise
            await self._replace_lists(step)
            document = await self._patch(step)
        self._metrics.applies.labels(step.kind, step.operation).inc()
        return _readable(document) if step.kind == SECRET.kind else document

    async def delete(self, namespace: str, step: Delete) -> None:
        """Delete the object of a plan if it is the same and unchanged: its owner may have changed.

        Raises ApiError (409) otherwise.
        """
        try:
            await self.connection.request(
                "DELETE",
                BY_KIND[step.kind].path(namespace, step.name),
                body={
                    "apiVersion": "v1",
                    "kind": "DeleteOptions",
                    "preconditions": {"uid": step.uid, "resourceVersion": step.version},
                },
            )
        except ApiError as error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise
            return
        self._metrics.applies.labels(step.kind, "delete").inc()

    async def write_status(self, key: Key, uid: str, status: Document) -> Document | None:
        """Write an agent's status, and return the agent; None if it is gone or has been replaced by another one.

        An object that an older definition accepted, with types in its spec that are invalid now, cannot be applied to.
        Its status is written by a merge patch instead.
        """
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": uid},
            "status": status,
        }
        try:
            document = await self._put_status(key, body)
        except ApiError as error:
            if error.code != HTTPStatus.NOT_FOUND:
                raise
            return None
        self._metrics.applies.labels(AGENT.kind, "update").inc()
        return document

    async def _put_status(self, key: Key, body: Document) -> Document:
        try:
            return await self._patch_status(key, body, APPLY, {"force": "true"})
        except ApiError as error:
            if "typed" not in error.message:
                raise
            return await self._patch_status(key, body, MERGE, {})

    async def _patch_status(self, key: Key, body: Document, content_type: str, query: Mapping[str, str]) -> Document:
        answer = await self.connection.request(
            "PATCH",
            AGENT.path(key.namespace, key.name, "status"),
            query={"fieldManager": FIELD_MANAGER, **query},
            body=body,
            content_type=content_type,
        )
        return answer.body

    async def post_event(self, agent: Mapping[str, Any], kind: str, reason: str, message: str) -> None:
        """Post a Kubernetes Event about an agent. `kind` is Normal or Warning."""
        metadata = agent["metadata"]
        now = timestamp(datetime.now(UTC))
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}", "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
            },
            "type": kind,
            "reason": reason,
            "message": message[:EVENT_MESSAGE],
            "source": {"component": FIELD_MANAGER},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        await self.connection.request("POST", EVENT.path(metadata["namespace"]), body=event)

    async def _patch(self, step: Apply, *, dry_run: bool = False) -> Document:
        metadata, body = step.document["metadata"], step.document
        if step.operation == "create":
            body = {**body, "metadata": {**metadata, "resourceVersion": NOTHING_YET}}
        answer = await self.connection.request(
            "PATCH",
            BY_KIND[step.kind].path(metadata["namespace"], metadata["name"]),
            query={"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
            | (DRY_RUN if dry_run else {}),
            body=body,
            content_type=APPLY,
        )
        return answer.body

    async def _replace_lists(self, step: Apply, *, dry_run: bool = False) -> None:
        """Merge the document as in RFC 7386: foreign entries in its lists are removed."""
        metadata = step.document["metadata"]
        await self.connection.request(
            "PATCH",
            BY_KIND[step.kind].path(metadata["namespace"], metadata["name"]),
            query={"fieldManager": FIELD_MANAGER} | (DRY_RUN if dry_run else {}),
            body=step.document,
            content_type=MERGE,
        )
        if not dry_run:
            self._metrics.applies.labels(step.kind, step.operation).inc()

    async def _reclaim(self, step: Apply) -> None:
        """Take ownership of foreign fields of the object. Refused (409) if the object changes at the same time."""
        metadata = step.document["metadata"]
        live = await self.get(BY_KIND[step.kind], metadata["namespace"], metadata["name"])
        entries = live["metadata"].get("managedFields") or [] if live is not None else []
        ours = reclaimed(entries, step.document)
        if live is None or ours == entries:
            return
        await self.connection.request(
            "PATCH",
            BY_KIND[step.kind].path(metadata["namespace"], metadata["name"]),
            query={"fieldManager": FIELD_MANAGER},
            body={"metadata": {"managedFields": ours, "resourceVersion": live["metadata"]["resourceVersion"]}},
            content_type=MERGE,
        )
        self._metrics.applies.labels(step.kind, "update").inc()

    async def _take_over(self, step: Apply, found: Document) -> None:
        """Take ownership of the object and of Helm's fields in it, and remove the annotation of consent.

        All in one write, which is refused (409) if the object changed since it was read, so that withdrawn consent
        counts. An object to which the document could not be applied afterwards is left to its owner.
        """
        await self._try(step)
        metadata = found["metadata"]
        shares = metadata.get("managedFields") or []
        ours = handed_over(shares, FIELD_MANAGER)
        change = {
            "ownerReferences": [
                *(metadata.get("ownerReferences") or []),
                *step.document["metadata"]["ownerReferences"],
            ],
            "annotations": {CONSENT: None},
            "resourceVersion": metadata["resourceVersion"],
        }
        await self.connection.request(
            "PATCH",
            BY_KIND[step.kind].path(metadata["namespace"], metadata["name"]),
            query={"fieldManager": FIELD_MANAGER},
            body={"metadata": change | ({"managedFields": ours} if ours != shares else {})},
            content_type=MERGE,
        )
        self._metrics.applies.labels(step.kind, "update").inc()

    async def _try(self, step: Apply) -> None:
        """Check by a dry run that the document can be applied, with its lists replaced if they are incompatible."""
        try:
            await self._patch(step, dry_run=True)
        except ApiError as error:
            if error.code != HTTPStatus.UNPROCESSABLE_ENTITY:
                raise
            await self._replace_lists(step, dry_run=True)

    async def _hand_over_replicas(self, document: Document, replicas: int) -> None:
        metadata = document["metadata"]
        await self.connection.request(
            "PATCH",
            BY_KIND["Deployment"].path(metadata["namespace"], metadata["name"]),
            query={"fieldManager": HANDOVER_MANAGER, "force": "true"},
            body={
                "apiVersion": document["apiVersion"],
                "kind": document["kind"],
                "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
                "spec": {"replicas": replicas},
            },
            content_type=APPLY,
        )
        self._metrics.applies.labels("Deployment", "update").inc()


def _readable(secret: Document) -> Document:
    """Return the Secret with its content as text under `stringData`, as it is applied."""
    data = {key: _decoded(value) for key, value in (secret.get("data") or {}).items()}
    return {**{key: value for key, value in secret.items() if key != "data"}, "stringData": data}


def _decoded(value: str) -> str:
    return base64.b64decode(value).decode(errors="replace")
