"""One attempt at a task: the turn of its message, or the rest of a turn that waited or whose worker ended."""

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from agent_service.agent.messages import Prompt, Usage, joined, sendable
from agent_service.agent.tools import Event, Handover, Progress, Resumption, Suspension, ToolResult, Transcript
from agent_service.agent.turn import Agent
from agent_service.chat.approval_errors import CannotWaitError, DecidedError, UnknownApprovalError
from agent_service.chat.approval_record import Suspended, WaitingCall
from agent_service.chat.approvals import Approvals, Taken
from agent_service.chat.steps import Steps
from agent_service.state.redis_errors import StateUnavailableError
from agent_service.tasks.progress import ProgressRecord, TurnLostError
from agent_service.tasks.queue import Tasks
from agent_service.tasks.record import Claim, TaskError

_LOST = TaskError("approval_lost", "The record of the task's approvals in the store is missing or cannot be read.")


class Attempt:
    """An attempt, whose end is reported by `report` until that succeeds."""

    def __init__(self, claim: Claim, tasks: Tasks, approvals: Approvals) -> None:
        self._claim = claim
        self._tasks = tasks
        self._approvals = approvals
        self._pieces: list[str] = []
        self._steps = Steps()
        self._progress = ProgressRecord(claim, tasks)
        self._before: Suspended | None = None
        self._taken: Taken | None = None
        self._suspension: Suspension | None = None
        self._waiting: list[WaitingCall] | None = None
        self._usage = Usage()

    @property
    def suspended(self) -> bool:
        """Whether the turn waits for approvals."""
        return self._suspension is not None or self._waiting is not None

    async def run(self, agent: Agent, on_answer: Callable[[], Awaitable[None]]) -> Usage:
        """Make the attempt, and return its token usage; call `on_answer` for its first piece.

        Raises:
            ModelError: when the answer is missing or incomplete.
            TurnLostError: when the turn so far of an earlier attempt is gone.
            TaskTakenError: when the task no longer belongs to this attempt.
            StateUnavailableError: when the turn so far cannot be read.
        """
        claim = self._claim
        deadline = time.time() + claim.seconds_left
        resumption = await self._go_on()
        if self._waiting is not None:
            return self._usage

        answered = False

        async def keep(piece: Event) -> None:
            nonlocal answered
            if not answered and not isinstance(piece, ToolResult):
                answered = True
                await on_answer()
            if isinstance(piece, str):
                self._pieces.append(piece)
            elif isinstance(piece, Suspension):
                self._suspension = piece
            elif isinstance(piece, Progress):
                await self._keep_step(piece)
            elif not isinstance(piece, Transcript | Handover):
                self._steps.note(piece)
            if isinstance(piece, ToolResult):
                await self._keep_result(piece)

        self._usage = await agent.answer(Prompt(claim.message, deadline=deadline, resumption=resumption), keep)
        return self._usage

    async def report(self) -> None:
        """Report the end of the attempt, which may be that the task waits."""
        if self.suspended:
            await self._suspend()
        else:
            await self._tasks.complete(self._claim, self._result())
        if self._taken is not None:
            await self._approvals.end(self._taken)

    async def _go_on(self) -> Resumption | None:
        """Return how the turn of an earlier attempt goes on; None if there is none, or it waits."""
        if self._claim.has_progress:
            self._before, resumption = await self._progress.read()
        elif self._claim.approval:
            taken = await self._take()
            if not isinstance(taken, Taken):
                self._waiting = taken
                return None
            self._taken, self._before, resumption = taken, taken.turn, taken.resumption
        else:
            return None
        self._steps = Steps(self._before.steps)
        for result in resumption.suspension.results:
            self._steps.note(result)
        return resumption

    async def _take(self) -> Taken | list[WaitingCall]:
        try:
            return await self._approvals.take(self._claim.approval, self._progress.place, "", again=True)
        except (UnknownApprovalError, DecidedError):
            raise TurnLostError(_LOST) from None

    async def _keep_step(self, step: Progress) -> None:
        if await self._progress.keep_step(self._so_far(step.suspension, step.tokens)) and self._taken is not None:
            # An attempt after this one goes on from the step.
            await self._approvals.end(self._taken)
            self._taken = None

    async def _keep_result(self, result: ToolResult) -> None:
        await self._progress.keep_result(result)
        if self._taken is not None:
            # Without it, a later attempt informs the model that the call may have run.
            with suppress(StateUnavailableError):
                await self._approvals.keep(self._taken, result)

    async def _suspend(self) -> None:
        """Make the task wait. The turn is stored once, however often this is repeated."""
        if self._suspension is not None and self._waiting is None:
            try:
                self._waiting = await self._approvals.put(self._so_far(self._suspension, self._usage.total))
            except CannotWaitError as error:
                await self._tasks.fail(self._claim, TaskError("cannot_wait", str(error)))
                return
        if not self._waiting:
            raise ValueError("The attempt has no calls that wait.")
        call = self._waiting[0]
        turn_id = call.id.partition(".")[0]
        await self._tasks.suspend(self._claim, turn_id, call.expires)
        # A decision in between found no task that waits.
        if not await self._approvals.of_turn(turn_id):
            await self._tasks.wake(self._claim.id, turn_id)

    def _so_far(self, suspension: Suspension, tokens: int) -> Suspended:
        """Return the turn with all that another attempt needs; `tokens` is what this one has used."""
        return Suspended(
            self._claim.owner,
            self._progress.place,
            self._claim.message,
            None,
            (),
            suspension,
            self._text(),
            self._steps.all() or (),
            self._tokens_before() + tokens,
        )

    def _result(self) -> dict[str, Any]:
        result: dict[str, Any] = {
            "response": sendable(self._text()),
            "tokens_used": self._tokens_before() + self._usage.total,
        }
        optional = {"steps": self._steps.all(), "stop_reason": self._usage.cut}
        return result | {name: value for name, value in optional.items() if value is not None}

    def _text(self) -> str:
        rest = "".join(self._pieces)
        return rest if self._before is None else joined(self._before.text, rest)

    def _tokens_before(self) -> int:
        return 0 if self._before is None else self._before.tokens
