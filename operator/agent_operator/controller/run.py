"""`agent-operator run`: the process from start to end."""

import asyncio
import gc
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any

import structlog

from agent_operator import __version__
from agent_operator.classes.choice import Classes
from agent_operator.controller import health_server
from agent_operator.controller.health_server import PortTakenError
from agent_operator.controller.leader_election import Elector, LostLeadershipError, NoLeaseError, Timing
from agent_operator.controller.lease import LeaseName
from agent_operator.controller.manager import RESYNC_SECONDS, DefinitionGoneError, Operator
from agent_operator.controller.signals import cancel_on_signals
from agent_operator.controller.watch.progress import SILENCE_SECONDS
from agent_operator.kube.connection import Connection, configuration
from agent_operator.kube.errors import ApiError, NoClusterError, ProxyFailedError, UnreachableError
from agent_operator.kube.resources import AGENT
from agent_operator.policy.settings import Policy

log = structlog.get_logger(__name__)

TIMING = Timing()

# The cache holds a million small, long-lived objects without cycles. With Python's default thresholds (700, 10, 10) the
# collector would traverse them for a sixth of the time in which they arrive.
GC_THRESHOLDS = (20_000, 20, 20)


class StartError(Exception):
    """The operator cannot start. The message explains what to do."""


class EndedError(Exception):
    """The operator cannot continue."""


@dataclass(frozen=True)
class Options:
    """The options of `run`.

    Without namespaces the operator serves all of them, and without a selector every agent in them. Without a lease it
    assumes that it is the only operator. Without a policy it refuses no spec. Classes replace those of the cluster.
    """

    namespaces: tuple[str, ...]
    selector: str | None
    lease: LeaseName | None
    health_port: int
    resync_seconds: float = RESYNC_SECONDS
    silence_seconds: float = SILENCE_SECONDS
    policy: Policy | None = None
    classes: Classes | None = None


async def run(options: Options) -> None:
    """Run the operator until the process receives SIGTERM or SIGINT. Raises StartError or EndedError."""
    main = asyncio.current_task()
    assert main is not None  # noqa: S101  we are in a task
    cancel_on_signals(main)
    gc.set_threshold(*GC_THRESHOLDS)
    with suppress(asyncio.CancelledError):
        await _run(options, main)
    # asyncio.run closes the watches that kopf left open, and logs a traceback for each that does not close at once.
    asyncio.get_running_loop().set_exception_handler(_log_at_end)
    log.info("Stopped")


def _log_at_end(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    if "asyncgen" in context:
        log.debug("A watch did not close", error=str(context.get("exception")))
    else:
        loop.default_exception_handler(context)


async def _run(options: Options, main: "asyncio.Task[Any]") -> None:
    async with AsyncExitStack() as stack:
        try:
            elector = await _elector(options.lease, stack)
            may_write = (lambda: elector.leading) if elector is not None else (lambda: True)
            connection = await stack.enter_async_context(Connection(await configuration(), may_write=may_write))
            operator = Operator(
                connection,
                options.namespaces,
                selector=options.selector,
                policy=options.policy,
                classes=options.classes,
                resync_seconds=options.resync_seconds,
                silence_seconds=options.silence_seconds,
            )
            await stack.enter_async_context(
                health_server.serve(
                    options.health_port, operator.fault, lambda: operator.started, operator.metrics.registry
                )
            )
            await operator.list_everything()
        except (NoClusterError, PortTakenError) as error:
            raise StartError(str(error)) from error
        except ProxyFailedError as error:
            raise StartError(f"{error}.") from error
        except UnreachableError as error:
            raise StartError(f"{error}. Check that the cluster is up, and that KUBECONFIG names it.") from error
        except ApiError as error:
            raise StartError(_why_not_listed(error)) from error
        where = ", ".join(options.namespaces) or "all namespaces"
        log.info(
            "Started",
            version=__version__,
            server=connection.host,
            watching=where,
            selector=options.selector,
            policy=options.policy is not None,
            classes=sorted(options.classes.valid) if options.classes is not None else None,
        )
        try:
            await _together(operator.watch(main), operator.resync(), _lead(operator, elector))
        except DefinitionGoneError as error:
            # Nothing is lost with the process: all state is in the cluster, and the next process reads it from there.
            raise EndedError(f"{error}: once it is installed again, restart the operator.") from error
        except LostLeadershipError as error:
            raise EndedError(f"{error}: stopped, so that no two operators work at once.") from error
        except NoLeaseError as error:
            raise EndedError(
                f"{error}. Grant get, create and update of leases in that namespace (the chart helm/agent-operator "
                "does), or run the only operator with --no-leader-elect."
            ) from error


async def _elector(lease: LeaseName | None, stack: AsyncExitStack) -> Elector | None:
    if lease is None:
        return None
    # A renewal that hangs has to leave time for a second attempt.
    connection = Connection(await configuration(), seconds=TIMING.renew / 2)
    await stack.enter_async_context(connection)
    return Elector(connection, lease, TIMING)


async def _lead(operator: Operator, elector: Elector | None) -> None:
    """Work while this operator leads. Until then, keys wait in the queue."""
    if elector is None:
        operator.metrics.is_leader.set(1)
        await _together(operator.work(), operator.collect_reports())
        return
    await elector.acquire()
    operator.metrics.is_leader.set(1)
    try:
        await _together(operator.work(), operator.collect_reports(), elector.hold())
    finally:
        operator.metrics.is_leader.set(0)
        await elector.release()


async def _together(*works: Coroutine[Any, Any, None]) -> None:
    """Run all coroutines until one returns or fails, then cancel the rest."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


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
