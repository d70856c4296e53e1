"""Answers as server-sent events (WHATWG HTML, 9.2): each `data:` line is one JSON object, comments are heartbeats."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from agent_service.agent.errors import ModelError
from agent_service.agent.tools import Piece, ToolResult, ToolUse
from agent_service.agent.turn import OnPiece
from agent_service.chat.approval_errors import CannotWaitError
from agent_service.chat.dialogue import Reply
from agent_service.chat.steps import shown_call, shown_text
from agent_service.middleware.direct_send import direct_send
from agent_service.routes.disconnect import CLIENT_CLOSED_REQUEST, ClientGoneError, WhileConnected
from agent_service.routes.errors import status_of
from agent_service.state.redis_errors import StateUnavailableError
from agent_service.telemetry.exposition import exemplar
from agent_service.telemetry.logs import where
from agent_service.telemetry.metrics import Metrics

_log = structlog.get_logger(__name__)

_SERVER_ERROR = 500

# X-Accel-Buffering: otherwise nginx would hold events back until its buffer is full.
HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}

STRING = {"type": "string"}
COUNT = {"type": "integer", "minimum": 0}


def schema_of(kind: str, optional: dict[str, Any] | None = None, /, **fields: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of the events of a kind."""
    return {
        "type": "object",
        "properties": {"type": {"const": kind}, **fields, **(optional or {})},
        "required": ["type", *fields],
        "additionalProperties": False,
    }


PIECES = [
    schema_of("text", content=STRING),
    schema_of("tool_use", id=STRING, name=STRING, input={"type": "object"}),
    schema_of("tool_result", id=STRING, is_error={"type": "boolean"}, content=STRING),
]

# The JSON object after `data:`.
_EVENT = {
    "oneOf": [
        *PIECES,
        schema_of(
            "done",
            {"stop_reason": {"type": ["string", "null"]}, "warning": STRING},
            input_tokens=COUNT,
            output_tokens=COUNT,
            conversation_id=STRING,
        ),
        schema_of(
            "input_required",
            {"warning": STRING},
            input_tokens=COUNT,
            output_tokens=COUNT,
            conversation_id=STRING,
            approvals={"type": "array", "items": {"type": "object"}},
        ),
        schema_of("error", message=STRING),
    ]
}


def event_stream(event: dict[str, Any], **fields: dict[str, Any]) -> dict[str, Any]:
    """Return the description of a stream: the schema of the data of its events, and those of their other fields."""
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": event}
    properties = {"data": data, **fields}
    # `itemSchema` is part of OpenAPI 3.2. FastAPI also writes it into documents of 3.1, whose readers ignore unknown
    # keys.
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"text/event-stream": {"itemSchema": schema}}


EVENT_STREAM = event_stream(_EVENT)


class StreamForm(Protocol):
    """The events of one answer, in the form of a client's protocol."""

    @property
    def heartbeat(self) -> bytes:
        """What is sent while the model is silent."""
        ...

    def start(self) -> bytes:
        """Return what comes before everything else."""
        ...

    def piece(self, piece: Piece) -> bytes:
        """Return the events of a piece."""
        ...

    def end(self, reply: Reply) -> bytes:
        """Return the last events of an answer."""
        ...

    def error(self, message: str, status: int) -> bytes:
        """Return the last events of an answer that failed, with the status that the error would have had."""
        ...


class EventStream(Response):
    """Sends the pieces of a reply as they are produced, in the form of the client's protocol.

    The reply is produced in the request's own task, which writes each piece itself. So a slow client slows down the
    model's stream, and a client that disconnects ends it. The answer starts with the first piece or the first
    heartbeat. An error before that is raised, and has its usual HTTP status. A later error is counted, because its
    status was 200.
    """

    def __init__(
        self,
        reply: Callable[[OnPiece], Awaitable[Reply]],
        form: StreamForm,
        *,
        metrics: Metrics,
        heartbeat_seconds: float,
    ) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._reply = reply
        self._form = form
        self._metrics = metrics
        self._asked_at: float | None = time.perf_counter()
        self._heartbeat_seconds = heartbeat_seconds
        # `opened` is set when the first bytes are made, and `started` when they are written.
        self._opened = self._started = False
        # Two tasks write: this one, and the one that watches the connection, which writes heartbeats.
        self._writing = asyncio.Lock()
        self._written_at = time.monotonic()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request (ASGI)."""
        self._send = send
        self._send_piece = direct_send(scope, send)
        try:
            async with WhileConnected(receive, beat=self._beat, beat_seconds=self._heartbeat_seconds):
                end = await self._last_event()
                await self._write(end, more=False)
        except ClientGoneError:
            if not self._started:
                await Response(status_code=CLIENT_CLOSED_REQUEST)(scope, receive, send)

    async def _last_event(self) -> bytes:
        try:
            reply = await self._reply(self._piece)
            return self._open_form() + self._form.end(reply)
        except (ModelError, CannotWaitError, StateUnavailableError) as error:
            if not self._started:
                raise
            return self._form.error(str(error), self._counted(error))
        except Exception as error:
            if not self._started:
                raise
            _log.error("Turn failed unexpectedly", error=type(error).__name__, where=where(error))
            return self._form.error("An internal error occurred.", self._counted(error))

    def _counted(self, error: Exception) -> int:
        """Count an error, and return the status that it would have had."""
        status = status_of(error)
        # As with other answers: a 4xx, caused by the client or by a limit, is not a failure of the agent.
        if status >= _SERVER_ERROR:
            self._metrics.stream_errors.inc()
        return status

    async def _piece(self, piece: Piece) -> None:
        if self._asked_at is not None:
            self._metrics.first_token.observe(time.perf_counter() - self._asked_at, exemplar())
            self._asked_at = None
        # A form counts its events, so the start comes first. A piece may have no event of its own.
        if data := self._open_form() + self._form.piece(piece):
            await self._write(data)

    def _open_form(self) -> bytes:
        if self._opened:
            return b""
        self._opened = True
        return self._form.start()

    async def _beat(self) -> float:
        silence = time.monotonic() - self._written_at
        if silence < self._heartbeat_seconds:
            return self._heartbeat_seconds - silence
        await self._write(self._open_form() + self._form.heartbeat)
        return self._heartbeat_seconds

    async def _write(self, data: bytes, *, more: bool = True) -> None:
        async with self._writing:
            if not self._started:
                self._started = True
                await self._send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            send = self._send_piece if more else self._send
            await send({"type": "http.response.body", "body": data, "more_body": more})
            self._written_at = time.monotonic()


class OwnForm:
    """The events of `/chat/stream`."""

    heartbeat = b": waiting for the model\n\n"

    def start(self) -> bytes:
        """Return nothing: the first event is that of the first piece."""
        return b""

    def piece(self, piece: Piece) -> bytes:
        """Return the event of a text, a tool call or its result."""
        if isinstance(piece, str):
            return b'data: {"type":"text","content":%b}\n\n' % _quoted(piece).encode("ascii")
        return _event(of_tool(piece))

    def end(self, reply: Reply) -> bytes:
        """Return the event `done` or `input_required`."""
        return _done(reply)

    def error(self, message: str, _status: int) -> bytes:
        """Return the event `error`."""
        return _event({"type": "error", "message": message})


def of_tool(piece: ToolUse | ToolResult) -> dict[str, object]:
    """Return the event of a tool call or its result."""
    if isinstance(piece, ToolUse):
        return {"type": "tool_use", "id": piece.id, "name": piece.name, "input": dict(piece.input)}
    content = shown_text(piece.content)
    return {"type": "tool_result", "id": piece.id, "is_error": piece.is_error, "content": content}


def _done(reply: Reply) -> bytes:
    event: dict[str, object] = {
        "type": "done",
        "input_tokens": reply.usage.input_tokens,
        "output_tokens": reply.usage.output_tokens,
        "conversation_id": reply.conversation_id,
    }
    if reply.waiting:
        event |= {"type": "input_required", "approvals": [shown_call(call) for call in reply.waiting]}
    elif reply.usage.cut is not None:
        event["stop_reason"] = reply.usage.cut
    if reply.warning is not None:
        event["warning"] = reply.warning
    if reply.usage.provider is not None:
        event |= {"model": reply.usage.model, "provider": reply.usage.provider}
    return _event(event)


def _event(event: dict[str, object]) -> bytes:
    return b"data: %b\n\n" % json.dumps(event, separators=(",", ":")).encode("ascii")


# Escaped to ASCII, as json.dumps does: no Unicode line end can break the framing, and half a surrogate pair can be
# sent. Every token is a text event: a complete encoder for each would cost more than everything else in this module.
_quoted = json.encoder.encode_basestring_ascii
