"""What an attempt at a task keeps of its turn, so that another attempt can go on from its last complete step."""

import asyncio
import json
from contextlib import suppress

import structlog

from agent_service.agent.tools import Resumption, ToolResult
from agent_service.chat.approval_record import (
    Place,
    Suspended,
    read_result,
    read_turn,
    with_results,
    written_call,
    written_result,
    written_state,
)
from agent_service.state.redis_errors import StateUnavailableError
from agent_service.tasks.queue import Tasks
from agent_service.tasks.record import Claim, TaskError

_log = structlog.get_logger(__name__)

# Each task of a worker may have as much in Redis.
_LARGEST_BYTES = 16 * 1024 * 1024

# Interval of attempts to keep a step while Redis is unavailable.
_RETRY_SECONDS = 0.5

_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)

_LOST = TaskError(
    "progress_lost",
    "The worker of the task ended, and the record of the task's tool calls is missing, too large to keep, or cannot be "
    "read. The calls may have run, so the task does not start again.",
)


class TurnLostError(Exception):
    """The turn so far of a task is missing or damaged, so that the task cannot go on."""

    def __init__(self, error: TaskError) -> None:
        super().__init__(error.message)
        self.error = error


class TaskTakenError(Exception):
    """The task no longer belongs to this attempt, which must make no further calls."""


class ProgressRecord:
    """The last complete step of a task, with the results of its calls so far."""

    def __init__(self, claim: Claim, tasks: Tasks) -> None:
        self._claim = claim
        self._tasks = tasks
        self._started: tuple[str, ...] = ()
        self._bytes = 0
        self._too_large = False

    @property
    def place(self) -> Place:
        """What the turn belongs to."""
        return Place("task", self._claim.id)

    async def read(self) -> tuple[Suspended, Resumption]:
        """Return the turn so far of an earlier attempt, and how it goes on.

        Raises:
            TurnLostError: if the record is missing or damaged.
            StateUnavailableError: if it cannot be read now.
        """
        record = await self._tasks.progress(self._claim)
        record |= {b"owner": self._claim.owner.encode(), b"place": str(self.place).encode()}
        try:
            turn = read_turn(record)
            started = enumerate(turn.suspension.started, start=1)
            fields = [b"result:%d" % number for number, _ in started]
            results = [read_result(json.loads(record[field])) for field in fields if field in record]
            json.dumps([written_result(each) for each in results], ensure_ascii=False).encode()
        except _UNREADABLE:
            self._tasks.note_damaged(self._claim.id)
            raise TurnLostError(_LOST) from None
        suspension = with_results(turn.suspension, results)
        lost = len(suspension.started) - len(results)
        _log.info("Task goes on from an earlier attempt", steps=suspension.steps, results=len(results), lost=lost)
        return turn, Resumption(suspension, None)

    async def keep_step(self, turn: Suspended) -> bool:
        """Keep a step whose calls are made next, and return whether it is kept: not if it is too large.

        While Redis is unavailable, this waits: without it, another attempt could repeat the calls.

        Raises:
            TaskTakenError: if the task no longer belongs to this attempt.
        """
        if self._too_large:
            return False
        state = written_state(turn)
        calls = [written_call(call) for call in turn.suspension.pending]
        self._bytes = len(state) + sum(map(len, calls))
        self._started = turn.suspension.started
        if self._bytes > _LARGEST_BYTES:
            self._too_large = True
            state, calls = "", []
            _log.warning(
                "Progress of a task is too large to keep: if its worker ends, the task fails", bytes=self._bytes
            )
        while True:
            with suppress(StateUnavailableError):
                if not await self._tasks.keep_step(self._claim, state, calls):
                    raise TaskTakenError
                return not self._too_large
            await asyncio.sleep(_RETRY_SECONDS)

    async def keep_result(self, result: ToolResult) -> None:
        """Keep the result of a call of the step. Without it, another attempt informs the model that it may have run."""
        if self._too_large or result.id not in self._started:
            return
        value = json.dumps(written_result(result), separators=(",", ":"))
        self._bytes += len(value)
        if self._bytes <= _LARGEST_BYTES:
            with suppress(StateUnavailableError):
                await self._tasks.keep_answer(self._claim, self._started.index(result.id) + 1, value)
