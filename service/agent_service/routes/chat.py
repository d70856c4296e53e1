"""`POST /chat` and `POST /chat/stream`."""

import time
import uuid
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.responses import StreamingResponse

from agent_service.agent.provider import Prompt, Usage
from agent_service.routes.disconnect import CLIENT_CLOSED_REQUEST, ClientGoneError, unless_disconnected
from agent_service.routes.errors import describe
from agent_service.routes.parts import Parts, PartsDep
from agent_service.routes.sse import EventStream, Turn

router = APIRouter(tags=["chat"])


def _sendable(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain NUL characters")
    if not text.strip():
        raise ValueError("must contain more than white space")
    return text


_Message = Annotated[
    str, Field(min_length=1, max_length=10_000, description="What the user says."), AfterValidator(_sendable)
]
_SystemPrompt = Annotated[
    str, Field(max_length=5_000, description="Takes the place of the agent's system prompt."), AfterValidator(_sendable)
]
_ConversationId = Annotated[
    str,
    Field(
        max_length=128,
        description="Goes on with a conversation. This version keeps no conversations: every id is unknown, and an "
        "unknown id starts a new conversation, whose id is in the answer.",
    ),
]


class ChatRequest(BaseModel):
    """Body of `POST /chat`."""

    model_config = ConfigDict(extra="forbid")

    message: _Message
    conversation_id: _ConversationId | None = None
    stream: bool = Field(default=False, description="Answer as `POST /chat/stream` does.")


class StreamRequest(BaseModel):
    """Body of `POST /chat/stream`."""

    model_config = ConfigDict(extra="forbid")

    message: _Message
    conversation_id: _ConversationId | None = None
    system_prompt: _SystemPrompt | None = None


class ChatAnswer(BaseModel):
    """Answer of `POST /chat`."""

    response: str = Field(description="What the agent says.")
    conversation_id: str = Field(description="Id of the conversation; new in every answer of this version.")
    tokens_used: int = Field(description="Tokens sent and received together.")
    processing_time_ms: float = Field(description="Milliseconds from the request to the answer.")


_EVENTS: dict[int | str, dict[str, object]] = {
    200: {
        "description": 'Server-sent events; the data of each is a JSON object: `{"type":"text","content"}` any number '
        'of times, then `{"type":"done","input_tokens","output_tokens","conversation_id"}` or '
        '`{"type":"error","message"}`. Comment lines keep the connection alive while the model is silent.',
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


@router.post("/chat", response_model=ChatAnswer, responses=describe(429, 502, 503, 504))
async def chat(body: ChatRequest, request: Request, parts: PartsDep) -> ChatAnswer | Response:
    """Answer a message, as a whole or (`stream: true`) as server-sent events."""
    if body.stream:
        return await _stream(parts, request, body.message, None)
    begun = time.perf_counter()
    pieces: list[str] = []

    async def keep(piece: str) -> None:
        pieces.append(piece)

    try:
        usage = await unless_disconnected(request, parts.agent.answer(Prompt(body.message), keep))
    except ClientGoneError:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return _answer("".join(pieces), usage, begun)


@router.post("/chat/stream", response_class=StreamingResponse, responses={**describe(429, 502, 503, 504), **_EVENTS})
async def chat_stream(body: StreamRequest, request: Request, parts: PartsDep) -> Response:
    """Answer a message as server-sent events. An error before the first of them has its HTTP status as usual."""
    return await _stream(parts, request, body.message, body.system_prompt)


async def _stream(parts: Parts, request: Request, message: str, system_prompt: str | None) -> Response:
    heartbeat = parts.settings.stream_heartbeat_seconds
    turn = Turn(parts.agent, Prompt(message, system_prompt))
    try:
        first = await unless_disconnected(request, turn.next(heartbeat))
    except ClientGoneError:
        turn.stop()
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    except BaseException:
        turn.stop()
        raise
    if isinstance(first, Exception):
        raise first
    return EventStream(turn, first, conversation_id=_new_conversation(), heartbeat_seconds=heartbeat)


def _answer(text: str, usage: Usage, begun: float) -> ChatAnswer:
    return ChatAnswer(
        # JSON escapes let a model API send half a surrogate pair, which UTF-8 cannot carry.
        response=text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"),
        conversation_id=_new_conversation(),
        tokens_used=usage.total,
        processing_time_ms=round((time.perf_counter() - begun) * 1000, 3),
    )


def _new_conversation() -> str:
    return str(uuid.uuid4())
