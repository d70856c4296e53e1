"""Runs background tasks, in a process of its own (`agent-service worker`) or alongside the API."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress

import structlog
from opentelemetry.trace import Span

from agent_service.agent.errors import (
    CredentialsRefusedError,
    ModelError,
    ModelRefusedError,
    RateLimitedError,
)
from agent_service.agent.turn import Agent
from agent_service.chat.approvals import Approvals
from agent_service.lifecycle import Lifecycle
from agent_service.limits.limits import Limits
from agent_service.state.redis_errors import StateUnavailableError
from agent_service.tasks.attempt import ApprovalLostError, Attempt
from agent_service.tasks.queue import FIRST_PAUSE_SECONDS, LEASE_SECONDS, LONGEST_PAUSE_SECONDS, TOO_LATE, Tasks
from agent_service.tasks.record import Claim, TaskError
from agent_service.tasks.tracing import TaskSpans, fail
from agent_service.telemetry.logs import where

_log = structlog.get_logger(__name__)

# Events arrive at once, by subscription. Polling is for missed events, waits that end, and tasks of dead workers.
_POLL_SECONDS = 1.0

# Interval of retries to report the end of a task while Redis is unavailable.
_REPORT_RETRY_SECONDS = 0.5

# The loop polls every second. If it has not done so for this long, it is stuck.
_STUCK_SECONDS = 30.0


class Worker:
    """Claims tasks, at most `concurrency` at once, until the process drains."""

    def __init__(
        self,
        tasks: Tasks,
        agent: Agent,
        limits: Limits,
        lifecycle: Lifecycle,
        spans: TaskSpans,
        *,
        approvals: Approvals,
        concurrency: int,
    ) -> None:
        self._tasks = tasks
        self._agent = agent
        self._approvals = approvals
        self._limits = limits
        self._lifecycle = lifecycle
        self._spans = spans
        self._concurrency = concurrency
        self._working: dict[Claim, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._ending = False
        self._lacks_tokens = False
        self._polled_at = time.monotonic()

    @property
    def stuck(self) -> bool:
        """Whether the worker has not polled for tasks for a long time."""
        return time.monotonic() - self._polled_at > _STUCK_SECONDS

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run tasks while the context lasts. Tasks that are unfinished at its end are requeued."""
        loops = [asyncio.create_task(self._forever(each)) for each in (self._take_up, self._keep_leases, self._listen)]
        try:
            yield
        finally:
            self._ending = True
            everything = [*loops, *self._working.values()]
            for task in everything:
                task.cancel()
            await asyncio.gather(*everything, return_exceptions=True)

    async def _forever(self, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except StateUnavailableError:
                await asyncio.sleep(_POLL_SECONDS)
            except Exception as error:
                # A bug in one step must not end the work of all.
                _log.error("Worker failed unexpectedly", error=type(error).__name__, where=where(error))
                await asyncio.sleep(_POLL_SECONDS)

    async def _take_up(self) -> None:
        self._polled_at = time.monotonic()
        self._wake.clear()
        free = self._concurrency - len(self._working)
        if not self._lifecycle.draining:
            self._lacks_tokens = bool(free and await self._limits.tokens_wait())
            # Called even with 0: tasks past their deadline must fail while all tasks wait.
            for claim in await self._tasks.claim(0 if self._lacks_tokens else free):
                self._begin(claim)
        with suppress(TimeoutError):
            async with asyncio.timeout(_POLL_SECONDS):
                await self._wake.wait()

    def _begin(self, claim: Claim) -> None:
        task = asyncio.create_task(self._work(claim))
        self._working[claim] = task
        self._lifecycle.tasks += 1
        task.add_done_callback(lambda _: self._end(claim))

    def _end(self, claim: Claim) -> None:
        del self._working[claim]
        self._lifecycle.tasks -= 1
        self._wake.set()

    async def _keep_leases(self) -> None:
        await asyncio.sleep(LEASE_SECONDS / 3)
        claims = list(self._working)
        if claims:
            for claim in await self._tasks.renew(claims):
                self._drop(claim)

    async def _listen(self) -> None:
        async with aclosing(self._tasks.news()) as news:
            async for cancelled in news:
                # A worker that cannot start a task would query Redis for each submitted one. Once it can, it polls.
                if cancelled is None and not self._lacks_tokens and len(self._working) < self._concurrency:
                    self._wake.set()
                for claim in [claim for claim in self._working if claim.id == cancelled]:
                    self._drop(claim)

    def _drop(self, claim: Claim) -> None:
        """Stop the work on a task that no longer belongs to this worker."""
        if claim in self._working and self._working[claim].cancel():
            _log.info("Task was dropped: it was cancelled, or another worker claimed it", task_id=claim.id)

    async def _work(self, claim: Claim) -> None:
        known = structlog.contextvars.bound_contextvars(task_id=claim.id, attempt=claim.attempt)
        with known, self._spans.start(claim) as span:
            try:
                report = await self._attempt(claim, span)
            except asyncio.CancelledError:
                if self._ending:
                    await self._requeue(claim)
                return
            await self._report(report)

    async def _attempt(self, claim: Claim, span: Span) -> Callable[[], Awaitable[None]]:
        """Make an attempt, and return the call that reports its end."""
        attempt = Attempt(claim, self._tasks, self._approvals)

        async def on_answer() -> None:
            if claim.probe:
                # The end of the attempt reports this again.
                with suppress(StateUnavailableError):
                    await self._tasks.resume(claim)

        try:
            async with asyncio.timeout(claim.seconds_left):
                usage = await attempt.run(self._agent, on_answer)
        except TimeoutError:
            _log.info("Task did not finish before its deadline")
            fail(span, TOO_LATE.code)
            return lambda: self._tasks.fail(claim, TOO_LATE)
        except ModelError as error:
            failed = TaskError(error.outcome, str(error))
            fail(span, failed.code)
            if isinstance(error, ModelRefusedError) and not isinstance(error, CredentialsRefusedError):
                _log.info("Task failed for good", code=failed.code)
                return lambda: self._tasks.fail(claim, failed)
            requested = (error.retry_after or 0) if isinstance(error, RateLimitedError) else None
            pause = _pause(claim.attempt, requested or 0)
            _log.info("Attempt at a task failed", code=failed.code, pause_seconds=round(pause, 1))
            return lambda: self._again(claim, failed, pause, requested)
        except (ApprovalLostError, StateUnavailableError) as error:
            return self._without_approvals(claim, error, span)
        except Exception as error:
            _log.error("Task failed unexpectedly", error=type(error).__name__, where=where(error))
            broken = TaskError("internal", "An internal error occurred; search the log for the task's id.")
            fail(span, broken.code)
            return lambda: self._tasks.retry(claim, broken, after_seconds=_pause(claim.attempt, 0))
        if attempt.suspended:
            _log.info("Task waits for approvals", tokens=usage.total)
        else:
            _log.info("Task was completed", tokens=usage.total)
        return attempt.report

    def _without_approvals(
        self, claim: Claim, error: ApprovalLostError | StateUnavailableError, span: Span
    ) -> Callable[[], Awaitable[None]]:
        if isinstance(error, StateUnavailableError):
            _log.info("Task was requeued, its approvals could not be read")
            return lambda: self._tasks.requeue(claim)
        lost = error.error
        fail(span, lost.code)
        _log.error("Task cannot go on, the record of its approvals is missing or damaged")
        return lambda: self._tasks.fail(claim, lost)

    async def _again(self, claim: Claim, failed: TaskError, pause: float, requested: int | None) -> None:
        """Retry a task after `pause` seconds.

        If the model API throttled it, asking for a wait of `requested` seconds, the other tasks are paused as well:
        they would be throttled too, and each would use up an attempt.
        """
        if requested is not None:
            await self._tasks.hold(requested)
        await self._tasks.retry(claim, failed, after_seconds=pause)

    async def _report(self, report: Callable[[], Awaitable[None]]) -> None:
        """Report how an attempt ended; retry while Redis is unavailable, because the answer was paid for."""
        while True:
            try:
                await report()
            except StateUnavailableError:
                if self._ending:
                    _log.warning("End of a task could not be reported, another worker will claim the task")
                    return
                await asyncio.sleep(_REPORT_RETRY_SECONDS)
            else:
                return

    async def _requeue(self, claim: Claim) -> None:
        try:
            await self._tasks.requeue(claim)
            _log.info("Task was requeued")
        except StateUnavailableError:
            _log.warning("Task could not be requeued, another worker will claim it when its lease expires")


def _pause(attempt: int, requested: float) -> float:
    """Return the seconds before the next attempt: longer each time, random, and at least the `requested` ones."""
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** (attempt - 1))
    # Full jitter would let some tasks retry at once, so half of the pause is fixed.
    return max(requested, longest / 2) + longest / 2 * random.random()  # noqa: S311  # no secret
