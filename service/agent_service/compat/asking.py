"""What the protocols of other clients share: a question is checked, asked, and answered or streamed."""

import math
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

from fastapi import Request
from starlette.responses import Response

from agent_service.agent.details import Block, Details, Message
from agent_service.agent.errors import ModelDeclinedError, PromptTooLongError
from agent_service.agent.messages import CHARACTERS_PER_TOKEN, Usage
from agent_service.agent.turn import OnPiece
from agent_service.chat.dialogue import Reply
from agent_service.chat.question import Question
from agent_service.compat.pausing import Paused
from agent_service.components import Components
from agent_service.routes.dependencies import owner, token
from agent_service.routes.disconnect import WhileConnected
from agent_service.routes.sse import EventStream, StreamForm

Turn = Callable[[OnPiece], Awaitable[Reply]]
"""Asks the dialogue, and passes on the pieces of the answer."""

# About what the largest image costs (Claude docs, "Vision"). A page of a PDF costs as much.
_IMAGE_TOKENS = 1600


def question(
    request: Request,
    components: Components,
    message: str,
    details: Details,
    *,
    conversation_id: str | None = None,
    new_id: str | None = None,
) -> Question:
    """Return the question of a request, which continues a conversation, or begins one with the id `new_id`.

    Raises:
        PromptTooLongError: if it has more tokens than the agent takes (API_MAX_INPUT_TOKENS).
    """
    check_tokens(components, message, details)
    return Question(message, conversation_id, token=token(request, components), details=details, new_id=new_id)


def check_tokens(components: Components, message: str, details: Details) -> None:
    """Raise PromptTooLongError if a question has more tokens than the agent takes (API_MAX_INPUT_TOKENS)."""
    most = components.settings.api_max_input_tokens
    found = tokens(message, details)
    if found > most:
        raise PromptTooLongError(f"The input has about {found} tokens; this agent takes at most {most}.")


def turn(request: Request, components: Components, asked: Question, paused: Paused | None, *, streamed: bool) -> Turn:
    """Return the turn of a question; if the client's history ends with an answer that waits, the rest of that turn."""
    caller, dialogue = owner(request), components.dialogue
    if paused is None:
        return partial(dialogue.reply, caller, asked, streamed=streamed)
    return partial(dialogue.go_on, caller, paused.conversation_id, paused.turn_id, streamed=streamed, token=asked.token)


async def whole(request: Request, taken: Turn, on_piece: OnPiece) -> Reply:
    """Return the complete answer of a turn.

    Raises:
        ModelError: when the answer is missing or incomplete.
        ClientGoneError: when the client disconnected.
    """
    async with WhileConnected(request.receive):
        return await _unless_declined(taken, on_piece)


def stream(components: Components, taken: Turn, form: StreamForm) -> Response:
    """Return the answer of a turn as events in the form of a protocol."""
    return EventStream(
        lambda on_piece: _unless_declined(taken, on_piece),
        form,
        metrics=components.metrics,
        heartbeat_seconds=components.settings.stream_heartbeat_seconds,
    )


async def _unless_declined(taken: Turn, on_piece: OnPiece) -> Reply:
    """Return the reply of a turn. To other clients, a model that declines is no error, but the end of an answer."""
    try:
        return await taken(on_piece)
    except ModelDeclinedError:
        return Reply("", Usage(stop_reason="refusal"), "")


def tokens(message: str, details: Details) -> int:
    """Return an estimate of the tokens of what a client sent, without the agent's own prompt."""
    texts = len(details.instructions or "") + sum(len(str(tool)) for tool in details.tools)
    own = _tokens(details.content) if details.content else math.ceil(len(message) / CHARACTERS_PER_TOKEN)
    return own + math.ceil(texts / CHARACTERS_PER_TOKEN) + sum(map(_of_message, details.earlier or ()))


def _of_message(message: Message) -> int:
    content = message["content"]
    return math.ceil(len(content) / CHARACTERS_PER_TOKEN) if isinstance(content, str) else _tokens(content)


def _tokens(blocks: Iterable[Block]) -> int:
    characters = images = inside = 0
    for block in blocks:
        if block["type"] == "text":
            characters += len(block["text"])
        elif block["type"] == "image" or (block["type"] == "document" and block["source"]["type"] != "text"):
            images += 1
        elif block["type"] == "tool_result" and not isinstance(block.get("content"), str):
            inside += _tokens(block.get("content") or ())
        else:
            characters += len(str(block))
    return math.ceil(characters / CHARACTERS_PER_TOKEN) + images * _IMAGE_TOKENS + inside
