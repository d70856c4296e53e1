"""The operator: lists everything, watches it, and lists it again at intervals; each event enqueues its agent."""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import structlog

from agent_operator.classes.choice import Classes
from agent_operator.controller.known_classes import KnownClasses
from agent_operator.controller.metrics import Metrics
from agent_operator.controller.reconcile.apply import Cluster
from agent_operator.controller.reconcile.reconciler import Reconciler
from agent_operator.controller.watch import kopf_adapter
from agent_operator.controller.watch.pod_reports import Reports
from agent_operator.controller.watch.progress import SILENCE_SECONDS, Watches
from agent_operator.controller.work_queue import WorkQueue, backoff
from agent_operator.kube.cache import Cache
from agent_operator.kube.connection import Connection
from agent_operator.kube.discovery import Kinds
from agent_operator.kube.errors import ApiError, NotLeadingError, UnreachableError
from agent_operator.kube.resources import AGENT_CLASS, Key, Resource
from agent_operator.manifests.document import Document
from agent_operator.policy.settings import Policy

log = structlog.get_logger(__name__)

WORKERS = 16

# Listing everything recovers what a watch missed, and detects kinds that came or went and changes to our Secrets.
# Jitter keeps operators from listing at the same time.
RESYNC_SECONDS = 300.0
# After this many resync periods without a successful list the operator is unhealthy, and the kubelet should restart it.
STALE_RESYNCS = 3
# The delay before the first retry after a failed list.
RESYNC_RETRY_SECONDS = 15.0
# Seconds to wait after a watch had to list again: other watches will have to as well, and one list serves them all.
GATHER_SECONDS = 1.0
# The longest pause before kopf is restarted.
WATCH_RETRY_SECONDS = 30.0

# Newer than any list.
NO_VERSION = str(2**63)


class DefinitionGoneError(Exception):
    """The cluster no longer has the AgentDeployment definition."""


class Operator:
    """A running operator.

    `namespaces` limits it to these namespaces (empty: all), and `selector` to agents with matching labels. It refuses
    specs that `policy` does not allow; without a policy it refuses none. `classes` replace those of the cluster, which
    an operator of single namespaces does not read.
    """

    def __init__(
        self,
        connection: Connection,
        namespaces: Sequence[str],
        *,
        selector: str | None = None,
        policy: Policy | None = None,
        classes: Classes | None = None,
        resync_seconds: float = RESYNC_SECONDS,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self._namespaces = tuple(namespaces)
        self._resync_seconds = resync_seconds
        self._cache = Cache()
        self.metrics = Metrics()
        self.metrics.watch_agents(self._cache.states)
        self._watches = Watches(self.metrics, silence_seconds)
        self._classes = KnownClasses(self._cache, classes or Classes() if classes or namespaces else None)
        self._kinds = Kinds(connection, selector, classes=self._classes.given is None)
        self._kinds_changed = asyncio.Event()
        self._relist = asyncio.Event()
        self._cluster = Cluster(connection, self.metrics)
        self._reports = Reports(self._cache, wake=self._wake)
        self._reconciler = Reconciler(
            self._cluster,
            self._cache,
            self.metrics,
            self._reports,
            served=self._kinds.has,
            classes=self._classes.current,
            policy=policy,
        )
        self._queue = WorkQueue(self._reconciler.reconcile, self._failed)
        self._listed_at: float | None = None

    async def list_everything(self) -> None:
        """List everything that is watched, and enqueue every agent. Raises ApiError and UnreachableError."""
        for kind in await self._kinds.refresh():
            log.info("A kind was added to or removed from the cluster", kind=kind, served=self._kinds.has(kind))
            self._kinds_changed.set()
            if not self._kinds.has(kind):
                self._cache.replace(kind, None, [], NO_VERSION)
        for resource in self._kinds.watched():
            for namespace in self._namespaces or (None,):
                await self._list(resource, namespace)
        self._classes.changed()
        self._reconciler.recheck_secrets()
        for agent in self._cache.agents():
            self._queue.add(agent)
        self._listed_at = time.monotonic()

    async def _list(self, resource: Resource, namespace: str | None) -> None:
        present: set[tuple[str, str]] = set()
        version = "0"
        try:
            async for documents, listed_at in self._cluster.watched(resource, namespace):
                version = listed_at
                for document in documents:
                    self._cache.store(resource.kind, document)
                    present.add((document["metadata"].get("namespace", ""), document["metadata"]["name"]))
        except ApiError as error:
            if error.code == HTTPStatus.NOT_FOUND and resource.optional:
                return  # The kind was removed a moment ago; the next list detects that.
            raise
        self._cache.retain(resource.kind, namespace, present, version)

    def receive(self, kind: str, exists: bool, document: Document) -> None:
        """Process a watch event, and enqueue the agent that it concerns; all agents for an event of a class."""
        self._watches.progressed(kind, document["metadata"].get("namespace", ""))
        agent = self._cache.store(kind, document) if exists else self._cache.remove(kind, document)
        if agent is not None:
            self._queue.add(agent)
        if kind == AGENT_CLASS.kind:
            self._classes.changed()
            for each in self._cache.agents():
                self._queue.add(each)

    def _wake(self, agent: Key) -> None:
        self._queue.add(agent)

    @property
    def started(self) -> bool:
        """Whether everything has been listed once."""
        return self._listed_at is not None

    def fault(self) -> str | None:
        """Return the problem of the operator as a whole, or None."""
        if self._listed_at is None:
            return None
        silent = time.monotonic() - self._listed_at
        if silent > STALE_RESYNCS * self._resync_seconds:
            return f"nothing could be listed for {silent:.0f} s"
        return self._watches.fault()

    async def work(self) -> None:
        """Reconcile until cancelled."""
        await self._queue.run(WORKERS)

    async def collect_reports(self) -> None:
        """Collect what pods report of budgets and dependencies until cancelled."""
        await self._reports.collect()

    async def resync(self) -> None:
        """List everything at intervals until cancelled. Raises DefinitionGoneError."""
        pause = self._resync_seconds
        while True:
            await self._pause(pause * random.uniform(0.8, 1.2))  # noqa: S311  spread, not secrecy
            try:
                await self.list_everything()
                pause = self._resync_seconds
            except (ApiError, UnreachableError) as error:
                _end_without_definition(error)
                log.warning("Could not list everything, and will try again", error=str(error))
                pause = min(RESYNC_RETRY_SECONDS, self._resync_seconds)

    async def _pause(self, seconds: float) -> None:
        """Wait this many seconds, or until a watch had to list again: it misses what was deleted in between."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._relist.wait()
                log.info("A watch had to list again, and everything will be listed again")
                await asyncio.sleep(GATHER_SECONDS)
        self._relist.clear()

    async def watch(self, main: "asyncio.Task[Any]") -> None:
        """Watch until cancelled. `main` is cancelled on signals. Raises DefinitionGoneError."""
        failures = 0
        while True:
            began = time.monotonic()
            self._kinds_changed.clear()
            try:
                await kopf_adapter.watch(
                    self._kinds.watched(),
                    self._namespaces,
                    self.receive,
                    self._watches,
                    listed_again=self._relist.set,
                    until=self._kinds_changed,
                    main=main,
                )
                continue
            except Exception as error:
                failures = failures + 1 if time.monotonic() < began + WATCH_RETRY_SECONDS else 0
                pause = min(backoff(failures), WATCH_RETRY_SECONDS)
                log.warning("Watches ended, and will be restarted", error=repr(error), seconds=round(pause, 1))
            await asyncio.sleep(pause)
            try:
                await self.list_everything()
            except (ApiError, UnreachableError) as error:
                _end_without_definition(error)

    def _failed(self, key: Key, error: Exception, delay: float) -> None:
        known = isinstance(error, ApiError | UnreachableError | NotLeadingError)
        log.warning(
            "Could not reconcile an agent, and will try again",
            namespace=key.namespace,
            name=key.name,
            error=str(error) if known else repr(error),
            seconds=round(delay, 1),
            exc_info=None if known else error,
        )


def _end_without_definition(error: Exception) -> None:
    """Raise DefinitionGoneError if a list failed with 404: only our own kind can be missing, and is indispensable."""
    if isinstance(error, ApiError) and error.code == HTTPStatus.NOT_FOUND:
        raise DefinitionGoneError("The definition of AgentDeployment was removed") from error
