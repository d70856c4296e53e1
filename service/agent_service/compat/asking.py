"""What the protocols of other clients share: a question is checked, asked, and answered or streamed."""

import math
from collections.abc import Iterable

from fastapi import Request
from starlette.responses import Response

from agent_service.agent.details import Block, Details, Message
from agent_service.agent.errors import PromptTooLongError
from agent_service.agent.messages import CHARACTERS_PER_TOKEN
from agent_service.chat.dialogue import Reply
from agent_service.chat.question import Question
from agent_service.components import Components
from agent_service.routes.chat import ignore
from agent_service.routes.dependencies import owner, token
from agent_service.routes.disconnect import WhileConnected
from agent_service.routes.sse import EventStream, StreamForm

# About what the largest image costs (Claude docs, "Vision"). A page of a PDF costs as much.
_IMAGE_TOKENS = 1600


def question(
    request: Request, components: Components, message: str, details: Details, *, conversation_id: str | None = None
) -> Question:
    """Return the question of a request.

    Raises:
        PromptTooLongError: if it has more tokens than the agent takes (API_MAX_INPUT_TOKENS).
    """
    most = components.settings.api_max_input_tokens
    found = tokens(message, details)
    if found > most:
        raise PromptTooLongError(f"The input has about {found} tokens; this agent takes at most {most}.")
    return Question(message, conversation_id, token=token(request, components), details=details)


async def reply(request: Request, components: Components, asked: Question) -> Reply:
    """Return the whole answer of a question.

    Raises:
        ModelError: when the answer is missing or incomplete.
        ClientGoneError: when the client disconnected.
    """
    async with WhileConnected(request.receive):
        return await components.dialogue.reply(owner(request), asked, ignore, streamed=False)


def stream(request: Request, components: Components, asked: Question, form: StreamForm) -> Response:
    """Return the answer of a question as events in the form of a protocol."""
    return EventStream(
        lambda on_piece: components.dialogue.reply(owner(request), asked, on_piece, streamed=True),
        form,
        metrics=components.metrics,
        heartbeat_seconds=components.settings.stream_heartbeat_seconds,
    )


def tokens(message: str, details: Details) -> int:
    """Return an estimate of the tokens of what a client sent, without the agent's own prompt."""
    texts = len(details.instructions or "") + sum(len(str(tool)) for tool in details.tools)
    own = _tokens(details.content) if details.content else math.ceil(len(message) / CHARACTERS_PER_TOKEN)
    return own + math.ceil(texts / CHARACTERS_PER_TOKEN) + sum(map(_of_message, details.earlier or ()))


def _of_message(message: Message) -> int:
    content = message["content"]
    return math.ceil(len(content) / CHARACTERS_PER_TOKEN) if isinstance(content, str) else _tokens(content)


def _tokens(blocks: Iterable[Block]) -> int:
    characters = images = 0
    for block in blocks:
        if block["type"] == "text":
            characters += len(block["text"])
        elif block["type"] == "image" or (block["type"] == "document" and block["source"]["type"] != "text"):
            images += 1
        else:
            characters += len(str(block))
    return math.ceil(characters / CHARACTERS_PER_TOKEN) + images * _IMAGE_TOKENS
