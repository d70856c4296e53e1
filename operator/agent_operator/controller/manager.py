"""The operator: everything is listed, then watched, and at times listed again; what is heard wakes its agent."""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import structlog

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
from agent_operator.kube.resources import Key, Resource
from agent_operator.manifests.document import Document
from agent_operator.policy.settings import Policy

log = structlog.get_logger(__name__)

WORKERS = 16

# A list of everything puts right what a watch missed, finds kinds that came or went, and our Secrets that were changed.
# Jitter keeps operators from asking together.
RESYNC_SECONDS = 300.0
# Without a successful list for so many of those the operator is of no use, and the kubelet should start it anew.
STALE_RESYNCS = 3
# The first try after a failed list.
RESYNC_RETRY_SECONDS = 15.0
# When one watch has to list again, others have to as well: one list of everything is made for all.
GATHER_SECONDS = 1.0
# Longest pause before kopf is begun anew.
WATCH_RETRY_SECONDS = 30.0

# Newer than any list.
NO_VERSION = str(2**63)


class DefinitionGoneError(Exception):
    """The cluster does not know AgentDeployments any more."""


class Operator:
    """Everything of one running operator. `namespaces` limits it (none: all), and `selector`, by the agents' labels.

    It refuses the specs that `policy` does not allow; without one, none.
    """

    def __init__(
        self,
        connection: Connection,
        namespaces: Sequence[str],
        *,
        selector: str | None = None,
        policy: Policy | None = None,
        resync_seconds: float = RESYNC_SECONDS,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self._namespaces = tuple(namespaces)
        self._resync_seconds = resync_seconds
        self._cache = Cache()
        self.metrics = Metrics()
        self.metrics.watch_agents(self._cache.states)
        self._watches = Watches(self.metrics, silence_seconds)
        self._kinds = Kinds(connection, selector)
        self._kinds_changed = asyncio.Event()
        self._relist = asyncio.Event()
        self._cluster = Cluster(connection, self.metrics)
        self._reports = Reports(self._cache, wake=self._wake)
        self._reconciler = Reconciler(
            self._cluster, self._cache, self.metrics, self._reports, served=self._kinds.has, policy=policy
        )
        self._queue = WorkQueue(self._reconciler.reconcile, self._failed)
        self._listed_at: float | None = None

    async def list_everything(self) -> None:
        """List all that is watched, and look at every agent. Raises ApiError and UnreachableError."""
        for kind in await self._kinds.refresh():
            log.info("Found that a kind came or went", kind=kind, served=self._kinds.has(kind))
            self._kinds_changed.set()
            if not self._kinds.has(kind):
                self._cache.replace(kind, None, [], NO_VERSION)
        for resource in self._kinds.watched():
            for namespace in self._namespaces or (None,):
                await self._list(resource, namespace)
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
                    present.add((document["metadata"]["namespace"], document["metadata"]["name"]))
        except ApiError as error:
            if error.code == HTTPStatus.NOT_FOUND and resource.optional:
                return  # It went a moment ago, and is noticed with the next list.
            raise
        self._cache.retain(resource.kind, namespace, present, version)

    def receive(self, kind: str, exists: bool, document: Document) -> None:
        """Take in an event of a watch, and wake the agent that it concerns."""
        self._watches.progressed(kind, document["metadata"]["namespace"])
        agent = self._cache.store(kind, document) if exists else self._cache.remove(kind, document)
        if agent is not None:
            self._queue.add(agent)

    def _wake(self, agent: Key) -> None:
        self._queue.add(agent)

    @property
    def started(self) -> bool:
        """Whether everything was listed once."""
        return self._listed_at is not None

    def fault(self) -> str | None:
        """What is wrong with the operator as a whole, if anything."""
        if self._listed_at is None:
            return None
        silent = time.monotonic() - self._listed_at
        if silent > STALE_RESYNCS * self._resync_seconds:
            return f"nothing could be listed for {silent:.0f} s"
        return self._watches.fault()

    async def work(self) -> None:
        """Reconcile, until cancelled."""
        await self._queue.run(WORKERS)

    async def collect_reports(self) -> None:
        """Find out what pods report of budgets and dependencies, until cancelled."""
        await self._reports.collect()

    async def resync(self) -> None:
        """List everything again and again, until cancelled. Raises DefinitionGoneError."""
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
        """Wait so long, or until a watch had to list again: nobody tells it what was deleted meanwhile."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._relist.wait()
                log.info("A watch had to list again, and everything will be")
                await asyncio.sleep(GATHER_SECONDS)
        self._relist.clear()

    async def watch(self, main: "asyncio.Task[Any]") -> None:
        """Watch, until cancelled; `main` is cancelled on signals. Raises DefinitionGoneError."""
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
                log.warning("Watching ended, and will begin again", error=repr(error), seconds=round(pause, 1))
            await asyncio.sleep(pause)
            try:
                await self.list_everything()
            except (ApiError, UnreachableError) as error:
                _end_without_definition(error)

    def _failed(self, key: Key, error: Exception, delay: float) -> None:
        known = isinstance(error, ApiError | UnreachableError | NotLeadingError)
        log.warning(
            "Could not bring an agent in line, and will try again",
            namespace=key.namespace,
            name=key.name,
            error=str(error) if known else repr(error),
            seconds=round(delay, 1),
            exc_info=None if known else error,
        )


def _end_without_definition(error: Exception) -> None:
    """Only our own kind can be missing of those that are listed: without it there is nothing to do."""
    if isinstance(error, ApiError) and error.code == HTTPStatus.NOT_FOUND:
        raise DefinitionGoneError("The definition of AgentDeployment was taken away") from error
