"""A message and its answer, as part of a conversation."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent_service.agent.messages import CHARACTERS_PER_TOKEN, Exchange, Prompt, Usage, is_blank, sendable
from agent_service.agent.tools import Piece, Transcript
from agent_service.agent.turn import Agent, OnPiece
from agent_service.chat.conversations import Conversations, new_id
from agent_service.chat.steps import Steps
from agent_service.state.redis_errors import StateUnavailableError

_FORGOTTEN = "The memory of conversations cannot be reached: this message was answered without the earlier messages."
_NOT_KEPT = "The memory of conversations cannot be reached: this answer will not be remembered."
_EMPTY = "The model returned no text. This message and its answer will not be remembered."


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer.

    `warning` is a text for the client: why the answer will not be remembered, or why it was created without the earlier
    exchanges. `steps` are the tool calls; None if there were none.
    """

    text: str
    usage: Usage
    conversation_id: str
    warning: str | None = None
    steps: Sequence[Mapping[str, Any]] | None = None


class Dialogue:
    """Answers messages in the context of their conversation, and stores the answers."""

    def __init__(self, agent: Agent, conversations: Conversations) -> None:
        self._agent = agent
        self._conversations = conversations

    async def reply(
        self,
        owner: str,
        message: str,
        on_piece: OnPiece,
        *,
        conversation_id: str | None,
        system_prompt: str | None,
        streamed: bool,
        token: str | None = None,
    ) -> Reply:
        """Answer a message of `owner` and pass each piece of it to `on_piece`; a `streamed` answer may take longer.

        `token` is the caller's own credential, for tools that it is forwarded to.

        Only a complete answer with text is stored. The model API refuses every request that contains an empty message,
        so an empty answer would end the conversation for good. An unknown id starts a new conversation. While the store
        is unavailable, any id is accepted, so that the conversation continues when the store is back.

        Raises:
            ModelError: when the answer is missing or incomplete.
        """
        warning = None
        history: tuple[Exchange, ...] = ()
        if conversation_id is not None:
            try:
                history = await self._conversations.history(owner, conversation_id)
            except StateUnavailableError:
                warning = _FORGOTTEN
        known = history or warning
        this_id = conversation_id if conversation_id is not None and known else new_id()
        pieces: list[str] = []
        steps = Steps()
        transcript: Transcript | None = None

        async def keep(piece: Piece | Transcript) -> None:
            nonlocal transcript
            if isinstance(piece, str):
                pieces.append(piece)
            elif isinstance(piece, Transcript):
                transcript = piece
                return
            else:
                steps.note(piece)
            await on_piece(piece)

        prompt = Prompt(message, system_prompt, history, this_id, owner, token=token)
        usage = await self._agent.answer(prompt, keep, streamed=streamed)
        text = sendable("".join(pieces))
        if is_blank(text):
            return Reply(text, usage, this_id, warning or _EMPTY, steps.all())
        try:
            # The model API counts its input only as a whole, so the tokens of a single message are estimated.
            tokens = math.ceil(len(message) / CHARACTERS_PER_TOKEN) + usage.answer_tokens
            exchange = Exchange(message, text, transcript.messages if transcript else ())
            await self._conversations.append(owner, this_id, exchange, tokens=tokens)
        except StateUnavailableError:
            warning = warning or _NOT_KEPT
        return Reply(text, usage, this_id, warning, steps.all())
