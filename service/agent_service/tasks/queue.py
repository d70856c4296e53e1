"""Background tasks: a durable queue whose entries are also the records that clients read.

Every change of a task is one atomic script. A task is delivered at least once: its worker holds a lease, and when the
lease expires another worker claims the task. A worker whose lease has expired can no longer change the task, because
each change names its attempt.
"""

import asyncio
import json
import math
import random
import secrets
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

import structlog

from agent_service.state.redis import Redis
from agent_service.state.script import Script
from agent_service.tasks.record import STATUSES, Claim, Status, Task, TaskError, parse_status, parse_task
from agent_service.telemetry.redact import printable

_log = structlog.get_logger(__name__)

# A worker renews its leases three times within this time. With a shorter lease, a live worker could lose its tasks in a
# busy moment. With a longer one, the tasks of a killed worker wait longer.
LEASE_SECONDS = 9.0

# How long no task can be claimed after the model API throttled one: the first pause and the longest. Each pause is
# twice as long as the one before.
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0

# For this long after a pause, `due` returns 0 unless a task was answered. If the next tasks are throttled as well,
# autoscalers must not have added workers in between.
_THROTTLED_SECONDS = 60.0

_SUBMIT, _CLAIM, _DUE, _HOLD, _RESUME, _RENEW, _FINISH, _PUT_BACK, _REQUEUE, _CANCEL, _SUSPEND, _WAKE = (
    Script(__package__, "task", name)
    for name in (
        "submit_task",
        "claim_tasks",
        "due_tasks",
        "hold_tasks",
        "resume_tasks",
        "renew_leases",
        "finish_task",
        "put_back_task",
        "requeue_task",
        "cancel_task",
        "suspend_task",
        "wake_task",
    )
)


TOO_LATE = TaskError("deadline_exceeded", "The task did not finish before its deadline.")
_WORKERS_DIED = TaskError("worker_lost", "The workers that ran the task ended before it finished.")
_CANCELLED = TaskError("cancelled", "The task was cancelled.")
_DAMAGED = TaskError("damaged", "The record of the task in the store cannot be read.")


class QueueFullError(Exception):
    """The number of waiting tasks has reached its limit."""

    def __init__(self) -> None:
        super().__init__("Too many tasks are waiting; try again later.")


class KeyReusedError(Exception):
    """The idempotency key belongs to a task with another message."""

    def __init__(self) -> None:
        super().__init__("The idempotency key was already used with another message; use a new key.")


class Tasks:
    """The queue, and the record of every task until it expires. All methods raise StateUnavailableError."""

    def __init__(
        self,
        redis: Redis,
        *,
        max_attempts: int,
        deadline_seconds: float,
        result_ttl_seconds: int,
        queue_limit: int,
        on_damaged: Callable[[], None] = lambda: None,
    ) -> None:
        """Take the store and the limits. `on_damaged` is called for each damaged record."""
        self._redis = redis
        self._on_damaged = on_damaged
        self._name = redis.key("task")
        self._max_attempts = max_attempts
        self._deadline_ms = int(deadline_seconds * 1000)
        self._ttl_ms = result_ttl_seconds * 1000
        self._queue_limit = queue_limit

    async def submit(
        self, owner: str, message: str, *, traceparent: str = "", idempotency_key: str = ""
    ) -> tuple[str, Status]:
        """Accept a task and return its id and status. For a key that the owner used before, return the earlier task.

        Raises:
            QueueFullError: when too many tasks are waiting.
            KeyReusedError: when the key was used with another message before.
        """
        remember_ms = self._deadline_ms + self._ttl_ms
        answer = await self._run(
            _SUBMIT,
            *(owner, message, secrets.token_hex(10), self._deadline_ms, self._queue_limit, traceparent),
            *(idempotency_key, remember_ms),
        )
        if answer == b"full":
            raise QueueFullError
        if answer == b"reused":
            raise KeyReusedError
        task_id, status = answer
        return task_id.decode(), parse_status(status.decode())

    async def get(self, owner: str, task_id: str) -> Task | None:
        """Return a task; None if the owner has no task with that id, it has expired, or its record is damaged."""
        record = await self._redis.read("HGETALL", f"{self._name}:record:{task_id}")
        if record is None:
            self._note_damaged(task_id)
            return None
        if record.get(b"owner") != owner.encode():
            return None
        try:
            return parse_task(task_id, record)
        except (ValueError, LookupError, TypeError, ArithmeticError, RecursionError):
            self._note_damaged(task_id)
            return None

    def _note_damaged(self, task_id: str) -> None:
        # Only the id is logged, because the record may contain a user's text.
        _log.error("Record of a task in Redis is damaged, skipped it", task_id=printable(task_id))
        self._on_damaged()

    async def newest(self, owner: str, status: Status | None, limit: int, before: str | None) -> list[Task]:
        """Return the owner's tasks, newest first: at most `limit` of those accepted before the task `before`."""
        name = f"{self._name}:of:{owner}:{status or 'all'}"
        last: str | bytes = f"({before}" if before else "+"
        found: list[Task] = []
        while len(found) < limit:
            entries = await self._redis.read("ZREVRANGEBYLEX", name, last, "-", "LIMIT", 0, limit - len(found))
            if not entries:
                break
            # An expired task may remain in the list for a moment, and a task may just have changed its status. An entry
            # that is not ASCII is not an id, and has no record.
            tasks = await asyncio.gather(*(self.get(owner, entry.decode("ascii", "replace")) for entry in entries))
            found += [task for task in tasks if task is not None and status in {None, task.status}]
            last = b"(" + entries[-1]
        return found

    async def cancel(self, owner: str, task_id: str) -> bool:
        """End a task that waits or runs; leave an ended one unchanged. Return whether the owner has such a task."""
        return bool(await self._run(_CANCEL, task_id, owner, _CANCELLED.json(), self._ttl_ms))

    async def claim(self, most: int) -> list[Claim]:
        """Claim at most `most` tasks, fewer while the model API throttles them.

        Also process tasks whose worker died or whose time is over: this must happen even if no task can be claimed.
        """
        lease = int(LEASE_SECONDS * 1000)
        errors = (_WORKERS_DIED.json(), TOO_LATE.json())
        claims = []
        for task_id, *rest in await self._run(_CLAIM, most, lease, self._max_attempts, self._ttl_ms, *errors):
            name = task_id.decode("ascii", "replace")
            if not rest:
                self._note_damaged(name)
                continue
            attempt, left, message, trace, probe, turn, owner = rest
            try:
                text, client = message.decode(), owner.decode()
            except UnicodeDecodeError:
                self._note_damaged(name)
                await self._run(_FINISH, name, attempt, "failed", "error", _DAMAGED.json(), self._ttl_ms)
                continue
            trace_id, turn_id = trace.decode("ascii", "replace"), turn.decode("ascii", "replace")
            claims.append(Claim(name, attempt, left / 1000, text, trace_id, bool(probe), turn_id, client))
        return claims

    async def renew(self, claims: Sequence[Claim]) -> list[Claim]:
        """Renew the leases of these tasks; return those that no longer belong to the caller."""
        pairs = [value for claim in claims for value in (claim.id, claim.attempt)]
        return [claims[position] for position in await self._run(_RENEW, int(LEASE_SECONDS * 1000), *pairs)]

    async def complete(self, claim: Claim, result: Mapping[str, Any]) -> None:
        """End a task as completed. Do nothing if it no longer belongs to the caller."""
        value = json.dumps(result)
        await self._run(_FINISH, claim.id, claim.attempt, "completed", "result", value, self._ttl_ms)

    async def fail(self, claim: Claim, error: TaskError) -> None:
        """End a task as failed. Do nothing if it no longer belongs to the caller."""
        await self._run(_FINISH, claim.id, claim.attempt, "failed", "error", error.json(), self._ttl_ms)

    async def retry(self, claim: Claim, error: TaskError, *, after_seconds: float) -> None:
        """Retry a task later. It fails with `error` if that would be one attempt too many or past its deadline."""
        wait = int(after_seconds * 1000)
        await self._run(_PUT_BACK, claim.id, claim.attempt, wait, self._max_attempts, error.json(), self._ttl_ms)

    async def requeue(self, claim: Claim) -> None:
        """Requeue a task for another worker, at once. This attempt does not count."""
        await self._run(_REQUEUE, claim.id, claim.attempt)

    async def suspend(self, claim: Claim, turn_id: str, expires: float) -> None:
        """Make a task wait for the approvals of a turn until they expire, in seconds since 1970.

        No worker has it meanwhile, this attempt does not count, and nor does the time towards its deadline.
        """
        await self._run(_SUSPEND, claim.id, claim.attempt, turn_id, math.ceil(expires * 1000))

    async def wake(self, task_id: str, turn_id: str) -> None:
        """Make a task go on whose approvals are decided. Do nothing if it does not wait for those of this turn."""
        await self._run(_WAKE, task_id, turn_id)

    async def count(self) -> dict[Status, int]:
        """Return the number of tasks by status."""
        names = ("ready", "leases", "asking", "completed", "failed")
        counts = await asyncio.gather(*(self._redis.call("ZCARD", f"{self._name}:{name}") for name in names))
        return dict(zip(STATUSES, counts, strict=True))

    async def hold(self, requested_seconds: float) -> None:
        """Pause all claims because the model API throttles tasks; afterwards allow only a few until one is answered.

        `requested_seconds` is the wait that the model API requested, 0 if it requested none.
        """
        bounds = (FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, _THROTTLED_SECONDS)
        milliseconds = [int(seconds * 1000) for seconds in (requested_seconds, *bounds)]
        # Drawn here, because a Redis script draws the same random numbers each time.
        await self._run(_HOLD, *milliseconds, random.random())  # noqa: S311  # no secret

    async def resume(self, probe: Claim) -> None:
        """Resume normal claims, because the model API answers the probe."""
        await self._run(_RESUME, probe.id, probe.attempt)

    async def due(self) -> int:
        """Return the number of tasks that one more worker could start now."""
        number: int = await self._run(_DUE)
        return number

    async def news(self) -> AsyncGenerator[str | None]:
        """Yield None when a task may be available, and the id of a task that was cancelled. Some may be missed."""
        async with self._redis.subscribe(f"{self._name}:news", f"{self._name}:cancelled") as messages:
            async for channel, message in messages:
                yield message.decode() if channel.endswith(":cancelled") else None

    async def _run(self, script: Script, *arguments: str | float) -> Any:
        return await self._redis.run(script, [self._name], *arguments)
