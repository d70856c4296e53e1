"""Publishes the status of an agent, and emits Events for its changes."""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

import structlog

from agent_operator.api.bounds import UNREADABLE
from agent_operator.controller.reconcile.apply import Cluster
from agent_operator.controller.status.approvals import news_of_approvals
from agent_operator.controller.status.budget import NEARLY_USED_UP, USED_UP, WITHIN_BUDGET, last_reason
from agent_operator.controller.status.dependencies import DEPENDENCIES_REACHABLE
from agent_operator.controller.status.drift import DRIFTED
from agent_operator.controller.status.status import is_ready, same
from agent_operator.controller.status.tool_servers import TOOLS_READY
from agent_operator.kube.cache import Cache
from agent_operator.kube.conditions import condition
from agent_operator.kube.errors import ApiError, UnreachableError
from agent_operator.kube.resources import AGENT, Key
from agent_operator.manifests.document import Document

log = structlog.get_logger(__name__)


# Response codes that are unrelated to the object being written.
NO_FAULT_OF_THE_OBJECT = {401, 403, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}


class Publisher:
    """Publishes statuses that have changed."""

    def __init__(self, cluster: Cluster, cache: Cache) -> None:
        self._cluster = cluster
        self._cache = cache
        self._unwritten: dict[Key, Document] = {}

    def forget(self, key: Key) -> None:
        """Forget an agent that is gone."""
        self._unwritten.pop(key, None)

    async def publish(self, document: Document, status: Document) -> None:
        """Write the status if it has changed, and post an Event for each change that a user should know about."""
        old = document.get("status", {})
        if same(old, status):
            return
        key = Key(document["metadata"]["namespace"], document["metadata"]["name"])
        try:
            written = await self._cluster.write_status(key, document["metadata"]["uid"], status)
        except (ApiError, UnreachableError) as error:
            if not _is_lasting(document, error):
                raise
            # Either an older definition accepted the object, and the current one rejects every update that does not fix
            # it, or it is too deep or too large for the API server to write. Events remain, each posted once.
            if same(self._unwritten.get(key, {}), status):
                return
            self._unwritten[key] = status
            log.warning("Could not write a status", namespace=key.namespace, name=key.name, error=str(error))
            written = document
        else:
            self._unwritten.pop(key, None)
        if written is None:
            return
        self._cache.store(AGENT.kind, written)
        for kind, reason, message in (*news(old, status), *news_of_approvals(key, old, status)):
            log.info("State changed", namespace=key.namespace, name=key.name, reason=reason, detail=message)
            try:
                await self._cluster.post_event(document, kind, reason, message)
            except (ApiError, UnreachableError) as error:
                log.warning("Could not post an event", namespace=key.namespace, name=key.name, error=str(error))


def _is_lasting(document: Document, error: ApiError | UnreachableError) -> bool:
    """Return whether the next attempt to write the status of this object would fail as well."""
    if UNREADABLE in document:
        return not isinstance(error, ApiError) or error.code not in NO_FAULT_OF_THE_OBJECT
    return isinstance(error, ApiError) and error.code == HTTPStatus.UNPROCESSABLE_ENTITY


def news(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield the changes to report as Events (type, reason, message): new problems, and that the agent is ready."""
    degraded, before = condition(new, "Degraded"), condition(old, "Degraded")
    if degraded["status"] == "True" and (before.get("status"), before.get("reason")) != ("True", degraded["reason"]):
        yield "Warning", degraded["reason"], degraded["message"]
    budget = condition(new, WITHIN_BUDGET)
    # Not compared with the previous condition: after a moment in which no pod reports, the Event must not repeat.
    if budget.get("reason") in {NEARLY_USED_UP, USED_UP} and budget["reason"] != last_reason(old):
        yield "Warning", budget["reason"], budget["message"]
    drifted, before = condition(new, DRIFTED), condition(old, DRIFTED)
    if drifted and drifted["message"] != before.get("message"):
        yield "Warning", drifted["reason"], drifted["message"]
    for name in (DEPENDENCIES_REACHABLE, TOOLS_READY):
        yield from _of_outage(name, condition(old, name), condition(new, name))
    if is_ready(new) and not is_ready(old):
        yield "Normal", "Ready", condition(new, "Ready")["message"]


def _of_outage(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield the start of an outage that the condition `name` reports, its change to another reason, and its end."""
    if new.get("status") == "False" and (old.get("status"), old.get("reason")) != ("False", new["reason"]):
        yield "Warning", new["reason"], new["message"]
    if new.get("status") == "True" and old.get("status") == "False":
        yield "Normal", name, new["message"]
