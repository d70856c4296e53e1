"""`POST /chat` and `POST /chat/stream`."""

import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from starlette.responses import JSONResponse, StreamingResponse

from agent_service.agent.tools import Piece
from agent_service.agent.turn import OnPiece
from agent_service.chat.approval_record import WaitingCall
from agent_service.chat.dialogue import Reply
from agent_service.chat.question import Question
from agent_service.components import Components
from agent_service.routes.accepted import Accepted, IdempotencyKey, accepted_of
from agent_service.routes.approval_form import Approval
from agent_service.routes.body import Body
from agent_service.routes.dependencies import ComponentsDep, owner, token
from agent_service.routes.disconnect import CLIENT_CLOSED_REQUEST, ClientGoneError, WhileConnected
from agent_service.routes.errors import describe
from agent_service.routes.sse import EVENT_STREAM, EventStream, OwnForm
from agent_service.tasks.queue import KeyReusedError
from agent_service.tasks.tracing import traceparent

router = APIRouter(tags=["chat"])


def sendable_message(text: str) -> str:
    """Return a text that every model takes; raise ValueError if it is not one."""
    if "\0" in text:
        raise ValueError("must not contain NUL characters")
    if not text.strip():
        raise ValueError("must contain more than white space")
    return text


# What `sendable_message` accepts, for readers of the OpenAPI document.
_SENDABLE = {"pattern": r"^[^\u0000]*[^\s\u0000][^\u0000]*$"}

Message = Annotated[
    str,
    Field(min_length=1, max_length=10_000, description="Message of the user.", json_schema_extra=_SENDABLE),
    AfterValidator(sendable_message),
]
_SystemPrompt = Annotated[
    str,
    Field(
        min_length=1,
        max_length=5_000,
        description="Replaces the agent's system prompt, where the agent allows it. Where it does not, as by default "
        "in production, the request is answered with 403.",
        json_schema_extra=_SENDABLE,
    ),
    AfterValidator(sendable_message),
]
ConversationId = Annotated[
    str,
    Field(
        max_length=128,
        description="Id of the conversation to continue. An unknown id starts a new conversation, whose id is in the "
        "answer.",
    ),
]


# What `ChatRequest` refuses, for readers of the OpenAPI document.
_BOTH: dict[str, Any] = {
    "properties": {"stream": {"const": True}, "background": {"const": True}},
    "required": ["stream", "background"],
}


class ChatRequest(Body):
    """Body of `POST /chat`."""

    model_config = ConfigDict(json_schema_extra={"not": _BOTH})

    message: Message
    conversation_id: ConversationId | None = None
    # Without `strict`, 0, 1.0 or "yes" would be accepted, contrary to the OpenAPI document.
    stream: bool = Field(default=False, strict=True, description="Whether to answer as `POST /chat/stream` does.")
    background: bool = Field(
        default=False,
        strict=True,
        description="Whether to answer in the background, as a task in the conversation: the answer is then 202, with "
        "the path of its events. Not together with `stream`.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.stream and self.background:
            raise ValueError("stream and background exclude each other; follow the events of the task instead")
        return self


class StreamRequest(Body):
    """Body of `POST /chat/stream`."""

    message: Message
    conversation_id: ConversationId | None = None
    system_prompt: _SystemPrompt | None = None


class ToolCall(BaseModel):
    """A tool call in an answer."""

    id: str = Field(description="Id of the call, unique in the answer.")
    name: str = Field(description="Name of the tool.")
    input: dict[str, Any] = Field(description="Arguments of the call.")
    is_error: bool | None = Field(None, description="Whether the call failed; the result is then the error.")
    content: str | None = Field(
        None,
        description="Text of the result, cut after 16,384 characters; `[image]` or `[document]` for other content.",
    )


Steps = Annotated[
    list[ToolCall] | None,
    Field(description="Tool calls that the answer is based on, in the order in which they began. Absent without any."),
]


class ChatAnswer(BaseModel):
    """Answer of `POST /chat`."""

    response: str = Field(description="Answer of the agent; the text so far if `status` is `input_required`.")
    conversation_id: str = Field(description="Id that continues this conversation when sent with the next message.")
    tokens_used: int = Field(description="Sum of the tokens sent and received.")
    processing_time_ms: float = Field(description="Milliseconds from the request to the answer.")
    stop_reason: str | None = Field(
        None,
        description="Why the answer was cut short: as named by the model API, such as `max_tokens`, or a bound of the "
        "turn: `max_steps`, `max_tool_calls` or `budget`. Absent if it was not.",
    )
    warning: str | None = Field(
        None,
        description="Why the answer was not saved in the conversation, or was made without its earlier messages.",
    )
    steps: Steps = None
    model: str | None = Field(None, description="Model that answered. Absent without fallbacks.")
    provider: str | None = Field(None, description="Provider that answered. Absent without fallbacks.")
    status: Literal["input_required", "decided"] | None = Field(
        None,
        description="`input_required` if tool calls wait for approvals: the turn goes on with "
        "`POST /chat/{conversation_id}/approvals`. `decided` for an approver, who gets no answer. Otherwise absent.",
    )
    approvals: list[Approval] | None = Field(None, description="Tool calls that wait for an approval. Absent if none.")

    @classmethod
    def without_text(
        cls, conversation_id: str, started: float, *, status: Literal["decided"], waiting: Sequence[WaitingCall]
    ) -> Self:
        """Return the answer for a client that gets no part of the turn's answer."""
        return cls(
            response="",
            conversation_id=conversation_id,
            tokens_used=0,
            processing_time_ms=_milliseconds(started),
            status=status,
            approvals=[Approval.of(call) for call in waiting] or None,
        )


_SYSTEM_PROMPT_REFUSED = (
    "This agent does not accept system prompts: omit system_prompt. Its owner can allow it (ALLOW_SYSTEM_PROMPT)."
)

ERRORS = describe(408, 413, 422, 429, 502, 503, 504)

_EVENTS: dict[int | str, dict[str, object]] = {
    200: {
        "description": 'Server-sent events; the data of each is a JSON object: `{"type":"text","content"}` any number '
        'of times, between them `{"type":"tool_use","id","name","input"}` and `{"type":"tool_result","id","is_error",'
        '"content"}` for each tool call, then `{"type":"done","input_tokens","output_tokens","conversation_id",'
        '"stop_reason"?,"warning"?,"model"?,"provider"?}`, `{"type":"input_required",'
        '"input_tokens","output_tokens","conversation_id","approvals","warning"?}` with the tool calls that '
        'wait for approvals, or `{"type":"error","message"}`. '
        "Comment lines keep the connection alive while the model is silent.",
        "content": EVENT_STREAM,
    }
}


@router.post(
    "/chat",
    response_model=ChatAnswer,
    # A whole answer, or events. FastAPI adds the media type of the former.
    responses={
        **ERRORS,
        **describe(409),
        200: {"content": EVENT_STREAM},
        202: {"model": Accepted, "description": "With `background: true`: the task that answers."},
    },
)
async def chat(
    body: ChatRequest, request: Request, components: ComponentsDep, idempotency_key: IdempotencyKey = None
) -> Response:
    """Answer a message, as one JSON object or, with `stream: true`, as server-sent events.

    With `background: true`, the answer is a task: it goes on without its client, and even if this instance ends.
    """
    if body.stream:
        return _stream(components, request, body, None)
    if body.background:
        return await _in_background(components, request, body, idempotency_key or "")
    started = time.perf_counter()
    try:
        async with WhileConnected(request.receive):
            reply = await _reply(components, request, body, None, ignore, streamed=False)
    except ClientGoneError:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return json_answer(reply, started)


@router.post("/chat/stream", response_class=StreamingResponse, responses={**ERRORS, **describe(403), **_EVENTS})
async def chat_stream(body: StreamRequest, request: Request, components: ComponentsDep) -> Response:
    """Answer a message as server-sent events. An error before the first event has its usual HTTP status."""
    if body.system_prompt is not None and not components.settings.takes_system_prompts:
        raise HTTPException(403, _SYSTEM_PROMPT_REFUSED)
    return _stream(components, request, body, body.system_prompt)


async def _in_background(components: Components, request: Request, body: ChatRequest, idempotency_key: str) -> Response:
    try:
        submitted = await components.background.submit(
            owner(request),
            Question(body.message, body.conversation_id),
            traceparent=traceparent(),
            idempotency_key=idempotency_key,
            has_tokens=True,
        )
    except KeyReusedError as error:
        raise HTTPException(409, str(error)) from None
    accepted = accepted_of(submitted)
    return JSONResponse(accepted.model_dump(), status_code=202, headers={"Location": accepted.status_url})


def _stream(
    components: Components, request: Request, body: ChatRequest | StreamRequest, system_prompt: str | None
) -> Response:
    return EventStream(
        lambda on_piece: _reply(components, request, body, system_prompt, on_piece, streamed=True),
        OwnForm(),
        metrics=components.metrics,
        heartbeat_seconds=components.settings.stream_heartbeat_seconds,
    )


async def _reply(
    components: Components,
    request: Request,
    body: ChatRequest | StreamRequest,
    system_prompt: str | None,
    on_piece: OnPiece,
    *,
    streamed: bool,
) -> Reply:
    question = Question(body.message, body.conversation_id, system_prompt, token(request, components))
    return await components.dialogue.reply(owner(request), question, on_piece, streamed=streamed)


def json_answer(reply: Reply, started: float) -> Response:
    """Return a reply as one JSON object; `started` is the time of the request, of the performance counter."""
    answer = ChatAnswer(
        response=reply.text,
        conversation_id=reply.conversation_id,
        tokens_used=reply.usage.total,
        processing_time_ms=_milliseconds(started),
        stop_reason=None if reply.waiting else reply.usage.cut,
        warning=reply.warning,
        model=reply.usage.model,
        provider=reply.usage.provider,
        steps=None if reply.steps is None else [ToolCall.model_validate(step) for step in reply.steps],
        status="input_required" if reply.waiting else None,
        approvals=[Approval.of(call) for call in reply.waiting] or None,
    )
    # Serialized here: FastAPI would validate the model again, and convert it to a dictionary first.
    return Response(answer.model_dump_json(exclude_none=True), media_type="application/json")


def _milliseconds(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 3)


async def ignore(_: Piece) -> None:
    """Ignore a piece: a plain answer is sent when it is complete."""
