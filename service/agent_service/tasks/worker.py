"""Runs background tasks, in a process of its own (`agent-service worker`) or alongside the API."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress

import structlog
from opentelemetry.trace import Span

from agent_service.agent.pending import INPUT_REQUIRED
from agent_service.agent.turn import Agent
from agent_service.auth.identity import for_log
from agent_service.chat.approvals import Approvals
from agent_service.chat.conversations import Conversations
from agent_service.lifecycle import Lifecycle, end_tasks
from agent_service.limits.limits import Limits
from agent_service.state.redis_errors import StateUnavailableError
from agent_service.tasks.attempt import Attempt
from agent_service.tasks.event_log import EventLog
from agent_service.tasks.failures import Failures
from agent_service.tasks.queue import LEASE_SECONDS, Tasks
from agent_service.tasks.record import Claim
from agent_service.tasks.tracing import TaskSpans
from agent_service.telemetry.logs import where
from agent_service.telemetry.metrics import Metrics

_log = structlog.get_logger(__name__)

# Events arrive at once, by subscription. Polling is for missed events, waits that end, and tasks of dead workers.
_POLL_SECONDS = 1.0

# Interval of retries to report the end of a task while Redis is unavailable.
_REPORT_RETRY_SECONDS = 0.5

# The loop polls every second. If it has not done so for this long, it is stuck.
_STUCK_SECONDS = 30.0

# A task whose client has used up its budget is checked this often: the budget may be raised meanwhile.
_LONGEST_SHARE_WAIT_SECONDS = 60.0


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
        conversations: Conversations,
        log: EventLog,
        metrics: Metrics,
        concurrency: int,
        most_accepted: int,
    ) -> None:
        """Take the parts.

        Args:
            tasks: the queue.
            agent: answers.
            limits: those of the agent.
            lifecycle: that of the process.
            spans: traces the attempts.
            approvals: those of tool calls.
            conversations: those of background chats.
            log: takes the events of the tasks.
            metrics: count the attempts.
            concurrency: maximum number of tasks that the worker runs and claims by itself.
            most_accepted: maximum number of tasks that it runs, with those that the process accepted for itself.
        """
        self._tasks = tasks
        self._failures = Failures(tasks, self._count)
        self._agent = agent
        self._approvals = approvals
        self._conversations = conversations
        self._log = log
        self._metrics = metrics
        self._most_accepted = most_accepted
        self._limits = limits
        self._lifecycle = lifecycle
        self._spans = spans
        self._concurrency = concurrency
        self._working: dict[Claim, asyncio.Task[None]] = {}
        self._accepted: set[Claim] = set()
        self._wake = asyncio.Event()
        self._ending = False
        self._lacks_tokens = False
        self._polled_at = time.monotonic()

    @property
    def stuck(self) -> bool:
        """Whether the worker has not polled for tasks for a long time."""
        return time.monotonic() - self._polled_at > _STUCK_SECONDS

    @property
    def has_room(self) -> bool:
        """Whether the process can run a task that it accepts now."""
        return len(self._working) < self._most_accepted and not self._lifecycle.draining

    async def can_start(self, *, has_tokens: bool) -> bool:
        """Return whether a task that this process accepts now may start: there is room, and there are tokens.

        With `has_tokens`, the limit of tokens has admitted the request already.
        """
        return self.has_room and (has_tokens or not await self._limits.tokens_wait())

    def begin(self, claim: Claim) -> None:
        """Run a task that this process accepted and claimed."""
        self._accepted.add(claim)
        self._begin(claim)

    @property
    def _free(self) -> int:
        """The number of tasks that the worker can claim."""
        return max(0, self._concurrency - len(self._working) + len(self._accepted))

    @asynccontextmanager
    async def running(self, *, claims: bool = True) -> AsyncIterator[None]:
        """Run tasks while the context lasts. Tasks that are unfinished at its end are requeued.

        Without `claims`, it runs only those that the process accepted for itself.
        """
        steps = (self._keep_leases, self._listen, *([self._take_up] if claims else []))
        loops = [asyncio.create_task(self._forever(each)) for each in steps]
        try:
            yield
        finally:
            self._ending = True
            working = list(self._working.values())
            for task in working:
                task.cancel()
            await end_tasks(loops)
            # Each requeues its task.
            await asyncio.gather(*working, return_exceptions=True)

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
        free = self._free
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
        self._accepted.discard(claim)
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
                if cancelled is None and not self._lacks_tokens and self._free:
                    self._wake.set()
                for claim in [claim for claim in self._working if claim.id == cancelled]:
                    self._drop(claim)

    def _drop(self, claim: Claim) -> None:
        """Stop the work on a task that no longer belongs to this worker."""
        if claim in self._working and self._working[claim].cancel():
            _log.info("Task was dropped: it was cancelled, or another worker claimed it", task_id=claim.id)

    async def _work(self, claim: Claim) -> None:
        known = structlog.contextvars.bound_contextvars(task_id=claim.id, attempt=claim.attempt, **for_log(claim.owner))
        with known:
            attempt = Attempt(claim, self._tasks, self._approvals, self._conversations, self._log)
            try:
                postponed = await self._postpones(claim)
            except asyncio.CancelledError:
                if self._ending:
                    await self._requeue(attempt, claim)
                return
            if not postponed:
                await self._make(attempt, claim)

    async def _make(self, attempt: Attempt, claim: Claim) -> None:
        """Make an attempt, and report its end."""
        with self._spans.start(claim) as span:
            try:
                report = await self._attempt(attempt, claim, span)
            except asyncio.CancelledError:
                self._count(claim, "cancelled")
                if self._ending:
                    await self._requeue(attempt, claim)
                attempt.close()
                return
            try:
                await self._report(report)
            finally:
                attempt.close()

    async def _postpones(self, claim: Claim) -> bool:
        """Return whether a task does not start or go on now: its client may use no more, and it waits until it may."""
        if not self._limits.share_limits:
            return False
        verdict = await self._limits.admit_share(claim.owner)
        if verdict.refused is None:
            return False
        seconds = min(verdict.wait / 1000, _LONGEST_SHARE_WAIT_SECONDS)
        try:
            await self._tasks.postpone(claim, seconds)
            _log.info("Task waits for a limit of its client", limit=verdict.refused, seconds=round(seconds, 1))
        except StateUnavailableError:
            _log.warning("Task could not be postponed, another worker will claim it when its lease expires")
        return True

    async def _attempt(self, attempt: Attempt, claim: Claim, span: Span) -> Callable[[], Awaitable[None]]:
        """Run an attempt, and return the call that reports its end."""

        async def on_answer() -> None:
            if claim.probe:
                # The end of the attempt reports this again.
                with suppress(StateUnavailableError):
                    await self._tasks.resume(claim)

        try:
            async with asyncio.timeout(claim.seconds_left):
                usage = await attempt.run(self._agent, on_answer)
        except Exception as error:
            end = self._failures.report_of(claim, error, span)

            async def report() -> None:
                await attempt.flush()
                await end()

            return report
        self._count(claim, INPUT_REQUIRED if attempt.suspended else "ok")
        if attempt.suspended:
            _log.info("Task waits for approvals", tokens=usage.total)
        else:
            _log.info("Task was completed", tokens=usage.total)
        return attempt.report

    def _count(self, claim: Claim, outcome: str) -> None:
        self._metrics.api_requests.labels(claim.details.api, outcome).inc()

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

    async def _requeue(self, attempt: Attempt, claim: Claim) -> None:
        try:
            await attempt.flush()
            await self._tasks.requeue(claim)
            _log.info("Task was requeued")
        except StateUnavailableError:
            _log.warning("Task could not be requeued, another worker will claim it when its lease expires")
