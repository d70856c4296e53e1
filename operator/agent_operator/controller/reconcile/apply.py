"""The only place that writes to the cluster (server-side apply, one manager), and the few reads of a decision."""

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

# Only ever looks: all its requests are dry runs.
READING_MANAGER = "portside-operator-look"

DRY_RUN = {"dryRun": "All"}
# An Event's message is cut by the API server at this length (core/v1 validation).
EVENT_MESSAGE = 1024
# No object has this resourceVersion, that of an empty etcd. The API server compares it with that of the object that it
# is to change, if there is one (409), and ignores it when it makes the object: an apply that only ever creates.
NOTHING_YET = "1"


class Cluster(Reader):
    """Reads and writes of the objects of agents."""

    def __init__(self, connection: Connection, metrics: Metrics) -> None:
        super().__init__(connection)
        self._metrics = metrics

    async def watched(self, resource: Resource, namespace: str | None) -> AsyncIterator[tuple[list[Document], str]]:
        """Yield the objects that we watch, in one namespace or in all, page by page with the list's resourceVersion."""
        query = {"labelSelector": resource.selector} if resource.selector else {}
        async for page in self.pages(resource, namespace, **query):
            yield page

    async def read_secret(self, namespace: str, name: str) -> Document | None:
        """The Secret, with its content as text under `stringData`, or None: without the right to read Secrets.

        The answer to a dry run of an empty apply is the object as it is; for one that is missing, it says "created".
        """
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}}
        answer = await self._connection.request(
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
        """What was told of the pod; nothing when the operator may not list Events."""
        query = {"fieldSelector": f"involvedObject.kind=Pod,involvedObject.name={pod}", "limit": "100"}
        try:
            page = (await self._connection.request("GET", EVENT.path(namespace), query=query)).body
        except ApiError as error:
            if error.code != HTTPStatus.FORBIDDEN:
                raise
            # Without it all works but the names of missing Secrets.
            log.warning("May not list Events", namespace=namespace, pod=pod, error=str(error))
            return []
        return [*(page.get("items") or [])]

    async def apply(self, step: Apply) -> Document:
        """Apply a document of a plan, and give the object as it is then.

        What we believe missing is only ever created: if it is there all the same, that is a conflict (409), and stays
        as it is. What was changed so that our parts and theirs do not go together (a renumbered port of a Service, say)
        is put back with its lists as a whole.
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
        """Delete what a plan says, if it is still the same object, unchanged: its owner may have changed.

        Raises ApiError (409) if it is not.
        """
        try:
            await self._connection.request(
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
        """Write an agent's status; None when the agent is gone or is another one by now.

        An object that an older definition let in, and whose spec is not of today's types, cannot be applied to: a merge
        says its status all the same.
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
        answer = await self._connection.request(
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
        await self._connection.request("POST", EVENT.path(metadata["namespace"]), body=event)

    async def _patch(self, step: Apply, *, dry_run: bool = False) -> Document:
        metadata, body = step.document["metadata"], step.document
        if step.operation == "create":
            body = {**body, "metadata": {**metadata, "resourceVersion": NOTHING_YET}}
        answer = await self._connection.request(
            "PATCH",
            BY_KIND[step.kind].path(metadata["namespace"], metadata["name"]),
            query={"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"}
            | (DRY_RUN if dry_run else {}),
            body=body,
            content_type=APPLY,
        )
        return answer.body

    async def _replace_lists(self, step: Apply, *, dry_run: bool = False) -> None:
        """Merge the document in as RFC 7386 does: what others put into its lists goes."""
        metadata = step.document["metadata"]
        await self._connection.request(
            "PATCH",
            BY_KIND[step.kind].path(metadata["namespace"], metadata["name"]),
            query={"fieldManager": FIELD_MANAGER} | (DRY_RUN if dry_run else {}),
            body=step.document,
            content_type=MERGE,
        )
        if not dry_run:
            self._metrics.applies.labels(step.kind, step.operation).inc()

    async def _reclaim(self, step: Apply) -> None:
        """Make what others put into the object ours. Refused (409) if it is changed at the same time."""
        metadata = step.document["metadata"]
        live = await self.get(BY_KIND[step.kind], metadata["namespace"], metadata["name"])
        entries = live["metadata"].get("managedFields") or [] if live is not None else []
        ours = reclaimed(entries, step.document)
        if live is None or ours == entries:
            return
        await self._connection.request(
            "PATCH",
            BY_KIND[step.kind].path(metadata["namespace"], metadata["name"]),
            query={"fieldManager": FIELD_MANAGER},
            body={"metadata": {"managedFields": ours, "resourceVersion": live["metadata"]["resourceVersion"]}},
            content_type=MERGE,
        )
        self._metrics.applies.labels(step.kind, "update").inc()

    async def _take_over(self, step: Apply, found: Document) -> None:
        """Make us the owner of the object, and Helm's share of its fields ours; its consent is used up with that.

        One write, which is refused (409) if the object was changed since it was looked at: consent that was withdrawn
        counts. An object that could not be brought in line afterwards is left to its owner.
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
        await self._connection.request(
            "PATCH",
            BY_KIND[step.kind].path(metadata["namespace"], metadata["name"]),
            query={"fieldManager": FIELD_MANAGER},
            body={"metadata": change | ({"managedFields": ours} if ours != shares else {})},
            content_type=MERGE,
        )
        self._metrics.applies.labels(step.kind, "update").inc()

    async def _try(self, step: Apply) -> None:
        """See that the object would take the document, with its lists replaced where they do not go together."""
        try:
            await self._patch(step, dry_run=True)
        except ApiError as error:
            if error.code != HTTPStatus.UNPROCESSABLE_ENTITY:
                raise
            await self._replace_lists(step, dry_run=True)

    async def _hand_over_replicas(self, document: Document, replicas: int) -> None:
        metadata = document["metadata"]
        await self._connection.request(
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
    """The Secret with its content as text under `stringData`, as it is applied."""
    data = {key: _decoded(value) for key, value in (secret.get("data") or {}).items()}
    return {**{key: value for key, value in secret.items() if key != "data"}, "stringData": data}


def _decoded(value: str) -> str:
    return base64.b64decode(value).decode(errors="replace")
