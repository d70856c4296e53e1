"""One attempt at a task: the turn of its message, or the rest of a turn that waited or whose worker ended."""

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from agent_service.agent.messages import CHARACTERS_PER_TOKEN, Exchange, Prompt, Usage, joined, sendable
from agent_service.agent.tools import Event, Last, Progress, Resumption, Suspension, ToolResult, Transcript
from agent_service.agent.turn import Agent
from agent_service.chat.approval_errors import CannotWaitError, DecidedError, UnknownApprovalError
from agent_service.chat.approval_record import Suspended, WaitingCall
from agent_service.chat.approvals import Approvals, Taken
from agent_service.chat.conversations import Addition, Conversations
from agent_service.chat.steps import Steps
from agent_service.state.redis_errors import StateUnavailableError
from agent_service.tasks.event_log import EventLog
from agent_service.tasks.event_writer import EventWriter
from agent_service.tasks.progress import ProgressRecord, TurnLostError
from agent_service.tasks.queue import Tasks
from agent_service.tasks.record import NO_EVENTS, Claim, LastEvents, TaskError

_LOST = TaskError("approval_lost", "The record of the task's approvals in the store is missing or cannot be read.")


class Attempt:
    """An attempt, whose end is reported by `report` until that succeeds."""

    def __init__(
        self, claim: Claim, tasks: Tasks, approvals: Approvals, conversations: Conversations, log: EventLog
    ) -> None:
        self._claim = claim
        self._tasks = tasks
        self._approvals = approvals
        self._conversations = conversations
        self._log = log
        self._events: EventWriter | None = None
        self._history: tuple[Exchange, ...] = ()
        self._transcript: Transcript | None = None
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
        events = self._events = await self._log.open(claim)
        resumption = await self._go_on()
        if self._waiting is not None:
            return self._usage
        if self._before is not None:
            events.go_on(self._before.text, self._steps.all() or ())

        answered = False

        async def keep(piece: Event) -> None:
            nonlocal answered
            if not answered and not isinstance(piece, ToolResult):
                answered = True
                await on_answer()
            if isinstance(piece, str):
                events.text(piece if self._pieces else self._after_break(piece))
                self._pieces.append(piece)
            elif isinstance(piece, Last):
                self._keep_last(piece)
            elif isinstance(piece, Progress):
                await self._keep_step(piece)
            else:
                self._steps.note(piece)
                events.note(piece)
            if isinstance(piece, ToolResult):
                await self._keep_result(piece)

        self._usage = await agent.answer(await self._prompt(deadline, resumption), keep)
        return self._usage

    def _keep_last(self, piece: Last) -> None:
        # A task has no tools of a client, so there is no `Handover` to keep.
        if isinstance(piece, Suspension):
            self._suspension = piece
        elif isinstance(piece, Transcript):
            self._transcript = piece

    async def flush(self) -> None:
        """Send the events so far.

        Raises:
            StateUnavailableError: when Redis is unavailable.
        """
        if self._events is not None:
            await self._events.flush()

    def close(self) -> None:
        """Send no more events."""
        if self._events is not None:
            self._log.end(self._events)

    async def _prompt(self, deadline: float, resumption: Resumption | None) -> Prompt:
        claim = self._claim
        in_conversation = bool(claim.conversation_id)
        if self._before is not None:
            self._history = self._before.history
        elif in_conversation and claim.details.earlier is None and not claim.begins_conversation:
            self._history = await self._conversations.history(claim.owner, claim.conversation_id)
        return Prompt(
            claim.message,
            history=self._history,
            conversation_id=claim.conversation_id or None,
            client=claim.owner,
            deadline=deadline,
            resumption=resumption,
            details=claim.details,
        )

    def _after_break(self, piece: str) -> str:
        """Return the first piece of this attempt with what separates it from the text before."""
        before = "" if self._before is None else self._before.text
        return joined(before, piece)[len(before) :]

    async def report(self) -> None:
        """Report the end of the attempt, which may be that the task waits."""
        if self.suspended:
            await self._suspend()
        else:
            last = await self._last()
            result = await self._tasks.complete(self._claim, self._result(), last, self._addition())
            if result is not None and self._events is not None:
                self._log.completed(self._events, last, result)
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
                await self._tasks.fail(self._claim, TaskError("cannot_wait", str(error)), await self._last())
                return
        if not self._waiting:
            raise ValueError("The attempt has no calls that wait.")
        call = self._waiting[0]
        turn_id = call.id.partition(".")[0]
        if not await self._tasks.suspend(self._claim, turn_id, call.expires, await self._last(self._waiting)):
            self._lost_events()
            await self._tasks.suspend(self._claim, turn_id, call.expires, await self._last(self._waiting))
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
            self._history,
            suspension,
            self._text(),
            self._steps.all() or (),
            self._tokens_before() + tokens,
            self._claim.details,
        )

    def _result(self) -> dict[str, Any]:
        result: dict[str, Any] = {
            "response": sendable(self._text()),
            "tokens_used": self._tokens_before() + self._usage.total,
            "output_tokens": self._usage.output_tokens,
        }
        usage = self._usage
        optional = {
            "steps": self._steps.all(),
            "stop_reason": usage.cut,
            "model": usage.model,
            "provider": usage.provider,
        }
        return result | {name: value for name, value in optional.items() if value is not None}

    def _addition(self) -> Addition | None:
        """Return the exchange for the conversation of the task; None if it has none, or the client keeps it."""
        claim = self._claim
        if not claim.conversation_id or claim.details.earlier is not None:
            return None
        exchange = Exchange(
            claim.message, sendable(self._text()), self._transcript.messages if self._transcript is not None else ()
        )
        tokens = math.ceil(len(claim.message) / CHARACTERS_PER_TOKEN) + self._usage.answer_tokens
        return self._conversations.addition(claim.owner, claim.conversation_id, exchange, tokens=tokens)

    async def _last(self, waiting: Sequence[WaitingCall] = ()) -> LastEvents:
        return NO_EVENTS if self._events is None else await self._events.last(waiting)

    def _lost_events(self) -> None:
        if self._events is not None:
            self._events.lost()

    def _text(self) -> str:
        rest = "".join(self._pieces)
        return rest if self._before is None else joined(self._before.text, rest)

    def _tokens_before(self) -> int:
        return 0 if self._before is None else self._before.tokens
