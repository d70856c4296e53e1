"""One attempt at a task: the turn of its message, or the rest of a turn that waited for approvals."""

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from agent_service.agent.messages import Prompt, Usage, sendable
from agent_service.agent.tools import Last, Piece, Suspension, ToolResult, Transcript
from agent_service.agent.turn import Agent
from agent_service.chat.approval_record import Place, Suspended, WaitingCall
from agent_service.chat.approvals import Approvals, CannotWaitError, DecidedError, Taken, UnknownApprovalError
from agent_service.chat.steps import Steps
from agent_service.state.redis_errors import StateUnavailableError
from agent_service.tasks.queue import Tasks
from agent_service.tasks.record import Claim, TaskError

_LOST = TaskError("approval_lost", "The record of the task's approvals in the store is missing or cannot be read.")


class ApprovalLostError(Exception):
    """The turn that waited for approvals is missing or damaged, so that the task cannot go on."""

    error = _LOST


class Attempt:
    """An attempt, whose end is reported by `report` until that succeeds."""

    def __init__(self, claim: Claim, tasks: Tasks, approvals: Approvals) -> None:
        self._claim = claim
        self._tasks = tasks
        self._approvals = approvals
        self._pieces: list[str] = []
        self._steps = Steps()
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
            ApprovalLostError: when the task waited for approvals that are gone.
            StateUnavailableError: when the approvals cannot be read.
        """
        claim = self._claim
        prompt = Prompt(claim.message, deadline=time.time() + claim.seconds_left)
        if claim.approval:
            taken = await self._take()
            if not isinstance(taken, Taken):
                self._waiting = taken
                return self._usage
            self._taken = taken
            for call in taken.turn.suspension.pending:
                self._steps.note(call.use)
            prompt = Prompt(claim.message, deadline=prompt.deadline, resumption=taken.resumption)

        answered = False

        async def keep(piece: Piece | Last) -> None:
            nonlocal answered
            if not answered:
                answered = True
                await on_answer()
            if isinstance(piece, str):
                self._pieces.append(piece)
            elif isinstance(piece, Suspension):
                self._suspension = piece
            elif not isinstance(piece, Transcript):
                self._steps.note(piece)
            if isinstance(piece, ToolResult) and self._taken is not None:
                # Without it, a later attempt informs the model that the call may have run.
                with suppress(StateUnavailableError):
                    await self._approvals.keep(self._taken, piece)

        self._usage = await agent.answer(prompt, keep)
        return self._usage

    async def report(self) -> None:
        """Report the end of the attempt, which may be that the task waits."""
        if self.suspended:
            await self._suspend()
        else:
            await self._tasks.complete(self._claim, self._result())
        if self._taken is not None:
            await self._approvals.end(self._taken)

    async def _take(self) -> Taken | list[WaitingCall]:
        place = Place("task", self._claim.id)
        try:
            return await self._approvals.take(self._claim.approval, place, "", again=True)
        except (UnknownApprovalError, DecidedError):
            raise ApprovalLostError from None

    async def _suspend(self) -> None:
        """Make the task wait. The turn is stored once, however often this is repeated."""
        if self._waiting is None:
            try:
                self._waiting = await self._approvals.put(self._so_far())
            except CannotWaitError as error:
                await self._tasks.fail(self._claim, TaskError("cannot_wait", str(error)))
                return
        call = self._waiting[0]
        turn_id = call.id.partition(".")[0]
        await self._tasks.suspend(self._claim, turn_id, call.expires)
        # A decision in between found no task that waits.
        if not await self._approvals.of_turn(turn_id):
            await self._tasks.wake(self._claim.id, turn_id)

    def _so_far(self) -> Suspended:
        if self._suspension is None:
            raise ValueError("The attempt has no turn that waits.")
        return Suspended(
            self._claim.owner,
            Place("task", self._claim.id),
            self._claim.message,
            None,
            (),
            self._suspension,
            self._text(),
            self._all_steps(),
            self._tokens(),
        )

    def _result(self) -> dict[str, Any]:
        result: dict[str, Any] = {"response": sendable(self._text()), "tokens_used": self._tokens()}
        optional = {"steps": self._all_steps() or None, "stop_reason": self._usage.cut}
        return result | {name: value for name, value in optional.items() if value is not None}

    def _text(self) -> str:
        return ("" if self._taken is None else self._taken.turn.text) + "".join(self._pieces)

    def _tokens(self) -> int:
        return (0 if self._taken is None else self._taken.turn.tokens) + self._usage.total

    def _all_steps(self) -> list[Mapping[str, Any]]:
        """Return the tool calls of the whole turn, each once: those that waited have their results now."""
        before = [] if self._taken is None else [dict(each) for each in self._taken.turn.steps]
        since = {each["id"]: each for each in self._steps.all() or []}
        known = {each["id"] for each in before}
        return [since.get(each["id"], each) for each in before] + [
            each for name, each in since.items() if name not in known
        ]
