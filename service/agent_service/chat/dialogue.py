"""A message and its answer, as part of a conversation."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from agent_service.agent.details import APIS
from agent_service.agent.errors import ModelError
from agent_service.agent.messages import CHARACTERS_PER_TOKEN, Exchange, Prompt, Usage, is_blank, joined, sendable
from agent_service.agent.pending import INPUT_REQUIRED
from agent_service.agent.tools import Event, Progress, Suspension, ToolResult, ToolUse, Transcript
from agent_service.agent.turn import Agent, OnPiece
from agent_service.chat.approval_record import Place, Suspended, WaitingCall
from agent_service.chat.approvals import Approvals, Taken
from agent_service.chat.conversations import Conversations, new_id
from agent_service.chat.question import Question
from agent_service.chat.steps import Steps
from agent_service.state.redis_errors import StateUnavailableError
from agent_service.telemetry.metrics import Metrics

_FORGOTTEN = "The memory of conversations cannot be reached: this message was answered without the earlier messages."
_NOT_KEPT = "The memory of conversations cannot be reached: this answer will not be remembered."
_EMPTY = "The model returned no text. This message and its answer will not be remembered."


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer.

    `warning` is a text for the client: why the answer will not be remembered, or why it was created without the earlier
    exchanges. `steps` are the tool calls; None if there were none. `waiting` are the calls that need an approval before
    the turn can go on; if there are any, the answer is not complete, and is not in the conversation yet. `calls` are
    those of the client's own tools, with which the answer ends.
    """

    text: str
    usage: Usage
    conversation_id: str
    warning: str | None = None
    steps: Sequence[Mapping[str, Any]] | None = None
    waiting: Sequence[WaitingCall] = ()
    calls: Sequence[ToolUse] = ()


class Dialogue:
    """Answers messages in the context of their conversation, and stores the answers."""

    def __init__(self, agent: Agent, conversations: Conversations, approvals: Approvals, metrics: Metrics) -> None:
        self._agent = agent
        self._conversations = conversations
        self._approvals = approvals
        self._metrics = metrics
        # Created up front: Prometheus sees no increase in a series that first appears with a value.
        for api in APIS:
            metrics.api_requests.labels(api, "ok")

    async def reply(self, owner: str, question: Question, on_piece: OnPiece, *, streamed: bool) -> Reply:
        """Answer a question of `owner` and pass each piece of the answer to `on_piece`.

        A `streamed` answer may take longer. If the client keeps the history itself, none is read or stored.

        Only a complete answer with text is stored. The model API refuses every request that contains an empty message,
        so an empty answer would end the conversation for good. An unknown id starts a new conversation. While the store
        is unavailable, any id is accepted, so that the conversation continues when the store is back.

        Raises:
            ModelError: when the answer is missing or incomplete.
        """
        warning = None
        history: tuple[Exchange, ...] = ()
        waited = False
        conversation_id = question.conversation_id
        if conversation_id is not None and question.details.earlier is None:
            try:
                history = await self._conversations.history(owner, conversation_id)
                waited = not history and await self._approvals.waited_in(conversation_id, owner)
            except StateUnavailableError:
                warning = _FORGOTTEN
        known = history or waited or warning
        this_id = conversation_id if conversation_id is not None and known else new_id()
        prompt = Prompt(
            question.message,
            question.system_prompt,
            history,
            this_id,
            owner,
            token=question.token,
            details=question.details,
        )
        return await self._turn(prompt, on_piece, streamed=streamed, warning=warning)

    async def go_on(
        self,
        owner: str,
        conversation_id: str,
        turn_id: str,
        on_piece: OnPiece,
        *,
        streamed: bool,
        token: str | None = None,
    ) -> Reply:
        """Go on with a turn of `owner` that waited for approvals, as `reply` does; at most one process does.

        The answer has what comes after the calls. If some are undecided, it is empty, and has them.

        Raises:
            ModelError: when the rest of the answer is missing or incomplete. The turn can go on again.
            UnknownApprovalError: if there is no such turn in this conversation.
            DecidedError: if the turn has gone on already.
            StateUnavailableError: when Redis is unavailable; the turn still waits.
        """
        taken = await self._approvals.take(turn_id, Place("chat", conversation_id), owner)
        if not isinstance(taken, Taken):
            return Reply("", Usage(), conversation_id, waiting=taken)
        turn = taken.turn
        prompt = Prompt(
            turn.message,
            turn.system,
            turn.history,
            conversation_id,
            owner,
            token=token,
            resumption=taken.resumption,
            details=turn.details,
        )
        try:
            reply = await self._turn(prompt, on_piece, streamed=streamed, warning=None, taken=taken)
        except BaseException:
            self._approvals.halt(taken)
            raise
        await self._approvals.end(taken)
        return reply

    async def _turn(
        self, prompt: Prompt, on_piece: OnPiece, *, streamed: bool, warning: str | None, taken: Taken | None = None
    ) -> Reply:
        """Take a turn, and count it by the protocol of its client."""
        outcome = "cancelled"
        try:
            reply = await self._answered(prompt, on_piece, streamed=streamed, warning=warning, taken=taken)
            outcome = INPUT_REQUIRED if reply.waiting else "ok"
        except ModelError as error:
            outcome = error.outcome
            raise
        except Exception:
            outcome = ModelError.outcome
            raise
        finally:
            self._metrics.api_requests.labels(prompt.details.api, outcome).inc()
        return reply

    async def _answered(
        self, prompt: Prompt, on_piece: OnPiece, *, streamed: bool, warning: str | None, taken: Taken | None = None
    ) -> Reply:
        this_id, owner = str(prompt.conversation_id), str(prompt.client)
        pieces: list[str] = []
        steps = Steps()
        transcript: Transcript | None = None
        suspension: Suspension | None = None
        for call in taken.turn.suspension.pending if taken is not None else ():
            steps.note(call.use)

        async def keep(piece: Event) -> None:
            nonlocal transcript, suspension
            # Progress is not kept: the client that waits for the answer would not find another process.
            if isinstance(piece, Transcript | Suspension | Progress):
                transcript = piece if isinstance(piece, Transcript) else transcript
                suspension = piece if isinstance(piece, Suspension) else suspension
                return
            if isinstance(piece, str):
                pieces.append(piece)
            else:
                steps.note(piece)
            if isinstance(piece, ToolResult) and taken is not None:
                # Without it, the model would learn of a call that may have run, if the turn must go on again.
                with suppress(StateUnavailableError):
                    await self._approvals.keep(taken, piece)
            await on_piece(piece)

        usage = await self._agent.answer(prompt, keep, streamed=streamed)
        text = sendable("".join(pieces))
        whole = text if taken is None else joined(taken.turn.text, text)
        if suspension is not None:
            place = Place("chat", this_id)
            waiting = await self._approvals.put(
                Suspended(
                    owner,
                    place,
                    prompt.message,
                    prompt.system,
                    prompt.history,
                    suspension,
                    whole,
                    details=prompt.details,
                )
            )
            return Reply(text, usage, this_id, warning, steps.all(), waiting)
        if prompt.details.earlier is not None:
            return Reply(text, usage, this_id, warning, steps.all())
        if is_blank(whole):
            return Reply(text, usage, this_id, warning or _EMPTY, steps.all())
        try:
            # The model API counts its input only as a whole, so the tokens of a single message are estimated.
            tokens = math.ceil(len(prompt.message) / CHARACTERS_PER_TOKEN) + usage.answer_tokens
            exchange = Exchange(prompt.message, whole, transcript.messages if transcript else ())
            await self._conversations.append(owner, this_id, exchange, tokens=tokens)
        except StateUnavailableError:
            warning = warning or _NOT_KEPT
        return Reply(text, usage, this_id, warning, steps.all())
