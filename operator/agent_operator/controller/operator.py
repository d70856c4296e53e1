"""`agent-operator run`: first everything is listed, then watched, and listed again from time to time."""

import asyncio
import random
import signal
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any, cast

import kopf
import structlog

from agent_operator import __version__
from agent_operator.controller import handlers, health
from agent_operator.controller.apply import Cluster
from agent_operator.controller.cache import Cache
from agent_operator.controller.connection import (
    ApiError,
    Connection,
    NoClusterError,
    UnreachableError,
    configuration,
)
from agent_operator.controller.health import PortTakenError
from agent_operator.controller.metrics import Metrics
from agent_operator.controller.queue import WorkQueue
from agent_operator.controller.reconcile import Reconciler
from agent_operator.controller.resources import AGENT, BY_KIND, WATCHED, Key
from agent_operator.manifests.form import Document

log = structlog.get_logger(__name__)

WORKERS = 16

# A list of everything puts right what a watch missed (after a 410 Gone, what was deleted meanwhile is never told), and
# finds our Secrets that were changed. Jitter keeps operators from asking together.
RESYNC_SECONDS = 300.0
# Without a successful list for so long the operator is of no use, and the kubelet should start it anew.
STALE_SECONDS = 3 * RESYNC_SECONDS
# The first try after a failed list.
RESYNC_RETRY_SECONDS = 15.0


class StartError(Exception):
    """The operator cannot start. The message says what to do."""


class EndedError(Exception):
    """The operator cannot go on."""


class Operator:
    """Everything of one running operator. `namespaces` limits it; none means all."""

    def __init__(self, connection: Connection, namespaces: Sequence[str]) -> None:
        self._namespaces = tuple(namespaces)
        self._cache = Cache()
        self.metrics = Metrics()
        self.metrics.watch_agents(self._cache.agents)
        self._cluster = Cluster(connection, self.metrics)
        self._reconciler = Reconciler(
            self._cluster, self._cache, self.metrics, served=lambda kind: not BY_KIND[kind].optional
        )
        self._queue = WorkQueue(self._reconciler.reconcile, self._failed)
        self._listed_at = time.monotonic()

    async def list_everything(self) -> None:
        """List all that is watched, and look at every agent. Raises ApiError and UnreachableError."""
        for resource in WATCHED:
            for namespace in self._namespaces or (None,):
                documents, version = await self._cluster.list(resource, namespace)
                self._cache.replace(resource.kind, namespace, documents, version)
        self._reconciler.doubt_secrets()
        for agent in self._cache.agents():
            self._queue.add(Key(agent["metadata"]["namespace"], agent["metadata"]["name"]))
        self._listed_at = time.monotonic()

    def heard(self, kind: str, exists: bool, document: Document) -> None:
        """Take in an event of a watch, and wake the agent that it concerns."""
        agent = self._cache.store(kind, document) if exists else self._cache.remove(kind, document)
        if agent is not None:
            self._queue.add(agent)

    def fault(self) -> str | None:
        """What is wrong with the operator as a whole, if anything."""
        silent = time.monotonic() - self._listed_at
        return f"nothing could be listed for {silent:.0f} s" if silent > STALE_SECONDS else None

    async def work(self) -> None:
        """Reconcile, until cancelled."""
        await self._queue.run(WORKERS)

    async def resync(self) -> None:
        """List everything again and again, until cancelled."""
        pause = RESYNC_SECONDS
        while True:
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311  spread, not secrecy
            try:
                await self.list_everything()
                pause = RESYNC_SECONDS
            except (ApiError, UnreachableError) as error:
                log.warning("Could not list everything, and will try again", error=str(error))
                pause = RESYNC_RETRY_SECONDS

    async def watch(self) -> None:
        """Watch, until the process is told to end. Raises what kopf cannot get over."""
        others = frozenset(asyncio.all_tasks())
        tasks = await kopf.spawn_tasks(
            registry=handlers.registry(self.heard),
            settings=handlers.settings(),
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            # Or kopf makes one of the user's name, and a container's numeric user has none.
            identity=cast("Any", "agent-operator"),
        )
        watching = asyncio.current_task()
        assert watching is not None  # noqa: S101  we are in a task
        # In the place of kopf's own, which would wait for every task that began since, requests to /healthz included.
        _on_signals(watching)
        await kopf.run_tasks(tasks, ignored=others)

    def _failed(self, key: Key, error: Exception, delay: float) -> None:
        known = isinstance(error, ApiError | UnreachableError)
        log.warning(
            "Could not bring an agent in line, and will try again",
            namespace=key.namespace,
            name=key.name,
            error=str(error) if known else repr(error),
            seconds=round(delay, 1),
            exc_info=None if known else error,
        )


async def run(namespaces: Sequence[str], health_port: int) -> None:
    """Run the operator until the process gets SIGTERM or SIGINT. Raises StartError or EndedError."""
    main = asyncio.current_task()
    assert main is not None  # noqa: S101  we are in a task
    _on_signals(main)
    with suppress(asyncio.CancelledError):
        await _run(namespaces, health_port)
    log.info("Stopped")


async def _run(namespaces: Sequence[str], health_port: int) -> None:
    async with AsyncExitStack() as stack:
        try:
            connection = await stack.enter_async_context(Connection(await configuration()))
            operator = Operator(connection, namespaces)
            await stack.enter_async_context(health.serve(health_port, operator.fault, operator.metrics.registry))
            await operator.list_everything()
        except (NoClusterError, PortTakenError) as error:
            raise StartError(str(error)) from error
        except UnreachableError as error:
            raise StartError(f"{error}. Check that the cluster is up, and that KUBECONFIG names it.") from error
        except ApiError as error:
            raise StartError(_why_not_listed(error)) from error
        where = ", ".join(namespaces) or "all namespaces"
        log.info("Started", version=__version__, server=connection.host, watching=where)
        helpers = [asyncio.create_task(operator.work()), asyncio.create_task(operator.resync())]
        try:
            await operator.watch()
        except Exception as error:
            # Nothing is lost with the process: all state is in the cluster, and the next start reads it there.
            raise EndedError(f"Watching ended ({error!r}): the operator has to be started again.") from error
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)


def _why_not_listed(error: ApiError) -> str:
    if error.code == 404:  # noqa: PLR2004  not found: the only kind that a cluster can lack is ours
        return (
            f"The cluster does not know {AGENT.plural}.{AGENT.group}. "
            "Install the definition: agent-operator crd | kubectl apply --server-side -f -"
        )
    if error.code == 401:  # noqa: PLR2004  unauthorized
        return "The cluster refused our credentials: check the kubeconfig, or the pod's service account."
    if error.code == 403:  # noqa: PLR2004  forbidden
        return (
            f"The operator lacks a permission: {error.message}. Grant it (the chart helm/agent-operator does), "
            "or limit the operator to namespaces where it has it, with --namespace."
        )
    return f"The API server refused a list: {error.message}"


def _on_signals(task: "asyncio.Task[None]") -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
