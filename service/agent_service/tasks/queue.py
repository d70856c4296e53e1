"""Background tasks: a durable queue whose entries are also the records that clients read.

Every change of a task is one atomic script. A task is delivered at least once: its worker holds a lease, and when the
lease expires another worker claims the task. A worker whose lease has expired can no longer change the task, because
each change names its attempt.
"""

import json
import math
import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agent_service.agent.details import NO_DETAILS, Details, written_details
from agent_service.chat.conversations import Addition
from agent_service.state.redis import Redis
from agent_service.state.script import Script
from agent_service.tasks.record import (
    NO_EVENTS,
    Claim,
    LastEvents,
    Status,
    Submitted,
    TaskError,
    parse_claim,
    parse_status,
)
from agent_service.tasks.records import TaskRecords

# A worker renews its leases three times within this time. With a shorter lease, a live worker could lose its tasks in a
# busy moment. With a longer one, the tasks of a killed worker wait longer.
LEASE_SECONDS = 9.0
_LEASE_MS = int(LEASE_SECONDS * 1000)

# How long no task can be claimed after the model API throttled one: the first pause and the longest. Each pause is
# twice as long as the one before.
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0

# For this long after a pause, `due` returns 0 unless a task was answered. If the next tasks are throttled as well,
# autoscalers must not have added workers in between.
_THROTTLED_SECONDS = 60.0

_SUBMIT, _CLAIM, _HOLD, _RESUME, _RENEW, _PUT_BACK, _REQUEUE, _POSTPONE, _CANCEL, _SUSPEND, _WAKE, _KEEP, _ANSWER = (
    Script(__package__, "task", name)
    for name in (
        "submit_task",
        "claim_tasks",
        "hold_tasks",
        "resume_tasks",
        "renew_leases",
        "put_back_task",
        "requeue_task",
        "postpone_task",
        "cancel_task",
        "suspend_task",
        "wake_task",
        "keep_step",
        "keep_answer",
    )
)
_FINISH = Script(__package__, "task", "agent_service.chat/exchange", "finish_task")


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


class Tasks(TaskRecords):
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
        super().__init__(redis, on_damaged)
        self._max_attempts = max_attempts
        self._deadline_ms = int(deadline_seconds * 1000)
        self._ttl_ms = result_ttl_seconds * 1000
        self._queue_limit = queue_limit

    async def submit(
        self, owner: str, message: str, *, traceparent: str = "", idempotency_key: str = ""
    ) -> tuple[str, Status]:
        """Accept a task and return its id and status, as `accept` does."""
        accepted = await self.accept(owner, message, traceparent=traceparent, idempotency_key=idempotency_key)
        return accepted.id, accepted.status

    async def accept(
        self,
        owner: str,
        message: str,
        *,
        conversation_id: str = "",
        details: Details = NO_DETAILS,
        claim: bool = False,
        traceparent: str = "",
        idempotency_key: str = "",
    ) -> Submitted:
        """Accept a task. For a key that the owner used before, return the earlier task.

        With a conversation, the task continues it, and adds its exchange. With `claim`, the caller runs the task at
        once, unless the model API throttles tasks.

        Raises:
            QueueFullError: when too many tasks are waiting.
            KeyReusedError: when the key was used with another message before.
        """
        remember_ms = self._deadline_ms + self._ttl_ms
        question = "" if details == NO_DETAILS else written_details(details)
        answer = await self._run(
            _SUBMIT,
            *(owner, message, secrets.token_hex(8), self._deadline_ms, self._queue_limit, traceparent),
            *(idempotency_key, remember_ms, conversation_id, question, _LEASE_MS if claim else 0),
        )
        if answer == b"full":
            raise QueueFullError
        if answer == b"reused":
            raise KeyReusedError
        task_id, status, conversation, *taken = answer
        return Submitted(
            task_id.decode(),
            parse_status(status.decode()),
            conversation.decode("ascii", "replace"),
            parse_claim(taken[0]) if taken else None,
        )

    async def cancel(self, owner: str, task_id: str) -> bool:
        """End a task that waits or runs; leave an ended one unchanged. Return whether the owner has such a task."""
        return bool(await self._run(_CANCEL, task_id, owner, _CANCELLED.json(), self._ttl_ms))

    async def claim(self, most: int) -> list[Claim]:
        """Claim at most `most` tasks, fewer while the model API throttles them.

        Also process tasks whose worker died or whose time is over: this must happen even if no task can be claimed.
        """
        errors = (_WORKERS_DIED.json(), TOO_LATE.json())
        claims = []
        for reply in await self._run(_CLAIM, most, _LEASE_MS, self._max_attempts, self._ttl_ms, *errors):
            task_id, *rest = reply
            try:
                claims.append(parse_claim(reply))
            except (ValueError, LookupError, TypeError, RecursionError):
                name = task_id.decode("ascii", "replace")
                self.note_damaged(name)
                if rest:
                    await self._finish(name, rest[0], ("failed", "error", _DAMAGED.json()), NO_EVENTS)
        return claims

    async def renew(self, claims: Sequence[Claim]) -> list[Claim]:
        """Renew the leases of these tasks; return those that no longer belong to the caller."""
        pairs = [value for claim in claims for value in (claim.id, claim.attempt)]
        return [claims[position] for position in await self._run(_RENEW, _LEASE_MS, *pairs)]

    async def complete(
        self,
        claim: Claim,
        result: Mapping[str, Any],
        last: LastEvents = NO_EVENTS,
        addition: Addition | None = None,
    ) -> str | None:
        """End a task as completed, with its last events, and return its result as stored.

        Do nothing if it no longer belongs to the caller, and return None. `addition` is its exchange, for its
        conversation.
        """
        value = json.dumps(result)
        ended = await self._finish(claim.id, claim.attempt, ("completed", "result", value), last, addition)
        return value if ended else None

    async def fail(self, claim: Claim, error: TaskError, last: LastEvents = NO_EVENTS) -> None:
        """End a task as failed, with its last events. Do nothing if it no longer belongs to the caller."""
        await self._finish(claim.id, claim.attempt, ("failed", "error", error.json()), last)

    async def _finish(
        self, task_id: str, attempt: int, end: tuple[str, str, str], last: LastEvents, addition: Addition | None = None
    ) -> bool:
        keys = [self._name] if addition is None else [self._name, addition.key]
        counted: list[str | int] = [last.before, int(last.whole), len(last.events), *last.events]
        more = () if addition is None else addition.arguments
        return bool(await self._redis.run(_FINISH, keys, task_id, attempt, *end, self._ttl_ms, *counted, *more))

    async def retry(self, claim: Claim, error: TaskError, *, after_seconds: float) -> None:
        """Retry a task later. It fails with `error` if that would be one attempt too many or past its deadline."""
        wait = int(after_seconds * 1000)
        await self._run(_PUT_BACK, claim.id, claim.attempt, wait, self._max_attempts, error.json(), self._ttl_ms)

    async def requeue(self, claim: Claim) -> None:
        """Requeue a task for another worker, at once. This attempt does not count."""
        await self._run(_REQUEUE, claim.id, claim.attempt)

    async def postpone(self, claim: Claim, wait_seconds: float) -> None:
        """Make a task wait whose client may use no more for now, with the client's other tasks that wait.

        This attempt does not count. They still fail at their deadlines.
        """
        await self._run(_POSTPONE, claim.id, claim.attempt, math.ceil(wait_seconds * 1000), int(claim.probe))

    async def suspend(self, claim: Claim, turn_id: str, expires: float, last: LastEvents = NO_EVENTS) -> bool:
        """Make a task wait for the approvals of a turn until they expire, in seconds since 1970.

        No worker has it meanwhile, this attempt does not count, and nor does the time towards its deadline. Return
        False if events of the task are missing: then the caller must send a whole one.
        """
        until = math.ceil(expires * 1000)
        events: list[str | int] = [last.before, int(last.whole), *last.events]
        reply = await self._run(_SUSPEND, claim.id, claim.attempt, turn_id, until, claim.approval, *events)
        return int(reply) >= 0

    async def wake(self, task_id: str, turn_id: str) -> None:
        """Make a task go on whose approvals are decided. Do nothing if it does not wait for those of this turn."""
        await self._run(_WAKE, task_id, turn_id)

    async def keep_step(self, claim: Claim, state: str, calls: Sequence[str]) -> bool:
        """Keep a step of a task whose calls are made next; return whether the task still belongs to the caller.

        An empty state means that no attempt can go on from here. `calls` wait for approvals.
        """
        return bool(await self._run(_KEEP, claim.id, claim.attempt, state, *calls))

    async def keep_answer(self, claim: Claim, number: int, result: str) -> None:
        """Keep the result of the call with this number of the step that is kept.

        Do nothing if the task belongs to another attempt.
        """
        await self._run(_ANSWER, claim.id, claim.attempt, number, result)

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
