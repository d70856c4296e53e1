"""What becomes of a task whose attempt failed: it is retried, or it fails."""

import random
from collections.abc import Awaitable, Callable

import structlog
from opentelemetry.trace import Span

from agent_service.agent.errors import (
    CredentialsRefusedError,
    ModelError,
    ModelRefusedError,
    RateLimitedError,
)
from agent_service.state.redis_errors import StateUnavailableError
from agent_service.tasks.progress import TaskTakenError, TurnLostError
from agent_service.tasks.queue import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, TOO_LATE, Tasks
from agent_service.tasks.record import Claim, TaskError
from agent_service.tasks.tracing import fail
from agent_service.telemetry.logs import where

_log = structlog.get_logger(__name__)


class Failures:
    """Decides what becomes of tasks whose attempts failed."""

    def __init__(self, tasks: Tasks, count: Callable[[Claim, str], None]) -> None:
        """Take the queue. `count` is called with each failed attempt and the code of its error."""
        self._tasks = tasks
        self._count = count

    def report_of(self, claim: Claim, error: Exception, span: Span) -> Callable[[], Awaitable[None]]:
        """Return the call that reports an attempt that failed."""
        if isinstance(error, TaskTakenError):
            _log.info("Task was dropped: it was cancelled, or another worker claimed it", task_id=claim.id)
            return _nothing
        if isinstance(error, StateUnavailableError):
            _log.info("Task was requeued, its turn so far could not be read")
            return lambda: self._tasks.requeue(claim)
        failed = _task_error(error)
        fail(span, failed.code)
        self._count(claim, failed.code)
        if _is_final(error):
            if isinstance(error, TurnLostError):
                _log.error("Task cannot go on, the record of its turn so far is missing or damaged", code=failed.code)
            else:
                _log.info("Task failed for good", code=failed.code)
            return lambda: self._tasks.fail(claim, failed)
        if not isinstance(error, ModelError):
            _log.error("Task failed unexpectedly", error=type(error).__name__, where=where(error))
            return lambda: self._tasks.retry(claim, failed, after_seconds=_pause(claim.attempt, 0))
        requested = (error.retry_after or 0) if isinstance(error, RateLimitedError) else None
        pause = _pause(claim.attempt, requested or 0)
        _log.info("Attempt at a task failed", code=failed.code, pause_seconds=round(pause, 1))
        return lambda: self._again(claim, failed, pause, requested)

    async def _again(self, claim: Claim, failed: TaskError, pause: float, requested: int | None) -> None:
        """Retry a task after `pause` seconds.

        If the model API throttled it, asking for a wait of `requested` seconds, the other tasks are paused as well:
        they would be throttled too, and each would use up an attempt.
        """
        if requested is not None:
            await self._tasks.hold(requested)
        await self._tasks.retry(claim, failed, after_seconds=pause)


async def _nothing() -> None:
    """Report nothing."""


def _is_final(error: Exception) -> bool:
    if isinstance(error, ModelRefusedError):
        # The key may be corrected meanwhile.
        return not isinstance(error, CredentialsRefusedError)
    return isinstance(error, TimeoutError | TurnLostError)


def _task_error(error: Exception) -> TaskError:
    """Return why an attempt failed, as its client sees it if it was the last one."""
    if isinstance(error, TimeoutError):
        return TOO_LATE
    if isinstance(error, TurnLostError):
        return error.error
    if isinstance(error, ModelError):
        return TaskError(error.outcome, str(error))
    return TaskError("internal", "An internal error occurred; search the log for the task's id.")


def _pause(attempt: int, requested: float) -> float:
    """Return the seconds before the next attempt: longer each time, random, and at least the `requested` ones."""
    longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** (attempt - 1))
    # Full jitter would let some tasks retry at once, so half of the pause is fixed.
    return max(requested, longest / 2) + longest / 2 * random.random()  # noqa: S311  # no secret
