"""A stream of events that the SDK has made, sent as our own streams are: with our heartbeats, and while we drain."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import structlog
from a2a.utils.error_handlers import build_rest_error_payload
from a2a.utils.errors import A2AError
from fastapi import Response
from sse_starlette.event import ensure_bytes
from sse_starlette.sse import EventSourceResponse
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from agent_service.routes.disconnect import ClientGoneError, WhileConnected
from agent_service.telemetry.logs import where

_log = structlog.get_logger(__name__)

_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_HEARTBEAT = b": waiting for the model\n\n"
_LINE_END = "\n"

# Line ends of Unicode, which the SDK leaves as they are. Its client, and every other one on httpx, would break the
# event there. They occur within strings of JSON only.
_ESCAPES = {character.encode(): b"\\u%04x" % ord(character) for character in "\x85\u2028\u2029"}


class Stream(Response):
    """Sends events until the last one, or until the client disconnects.

    The SDK's own response ends when the server is asked to stop, and has heartbeats of its own.
    """

    def __init__(self, first: bytes, events: AsyncIterator[Any], *, heartbeat_seconds: float) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._first = first
        self._events = events
        self._heartbeat_seconds = heartbeat_seconds
        # Two tasks write: the one of the request, and the one that watches the connection.
        self._writing = asyncio.Lock()
        self._written_at = time.monotonic()

    @classmethod
    async def of(cls, answer: Response, *, heartbeat_seconds: float) -> Response:
        """Return the answer; one with events is sent by this class, once the first one is there.

        An error before that is an answer of its own, which the SDK leaves out for version 0.3 over HTTP+JSON.
        """
        if not isinstance(answer, EventSourceResponse):
            return answer
        events = aiter(answer.body_iterator)
        try:
            first = _sent(await anext(events))
        except StopAsyncIteration:
            first = b""
        except A2AError as error:
            payload = build_rest_error_payload(error)
            return JSONResponse(payload, status_code=payload["error"]["code"])
        return cls(first, events, heartbeat_seconds=heartbeat_seconds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request (ASGI)."""
        self._send = send
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        with suppress(ClientGoneError):
            async with WhileConnected(receive, beat=self._beat, beat_seconds=self._heartbeat_seconds):
                await self._write(self._first)
                try:
                    async for event in self._events:
                        await self._write(_sent(event))
                except Exception as error:
                    # The SDK writes the errors that it knows into the stream, except for version 0.3 over HTTP+JSON.
                    _log.error("A stream of A2A failed unexpectedly", error=type(error).__name__, where=where(error))
                await self._write(b"", more=False)

    async def _beat(self) -> float:
        silence = time.monotonic() - self._written_at
        if silence < self._heartbeat_seconds:
            return self._heartbeat_seconds - silence
        await self._write(_HEARTBEAT)
        return self._heartbeat_seconds

    async def _write(self, data: bytes, *, more: bool = True) -> None:
        async with self._writing:
            await self._send({"type": "http.response.body", "body": data, "more_body": more})
            self._written_at = time.monotonic()


def _sent(event: Any) -> bytes:
    """Return an event of the SDK as it is sent: without the line ends of Unicode."""
    data = ensure_bytes(event, _LINE_END)
    for character, escape in _ESCAPES.items():
        data = data.replace(character, escape)
    return data
