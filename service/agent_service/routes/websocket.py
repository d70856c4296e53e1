"""A WebSocket through the agent: messages and close codes in both directions, each as fast as its receiver reads.

Pings are answered by each side of the agent for itself: the client's by the server, the runtime's by aiohttp.
"""

import asyncio
from collections.abc import Awaitable, Mapping

import aiohttp
import structlog
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from agent_service.agent.errors import ModelError
from agent_service.middleware.upgrade import SWITCHED
from agent_service.runtime import errors
from agent_service.runtime.proxy.headers import Headers, for_client
from agent_service.telemetry.redact import for_log

_log = structlog.get_logger(__name__)

# RFC 6455, 7.4.1, and the registry of close codes.
_NORMAL = 1000
_GOING_AWAY = 1001
_NONE_SENT = 1005
_LOST = 1006
_TOO_BIG = 1009
_BAD_GATEWAY = 1014

_HANDSHAKE = frozenset({b"sec-websocket-accept", b"sec-websocket-protocol", b"sec-websocket-extensions"})

_FIRST_ERROR, _AFTER_LAST = 400, 600
_FAILED = 502


Opened = tuple[aiohttp.ClientWebSocketResponse, Headers]


async def relay(opening: Awaitable[Opened], scope: Scope, receive: Receive, send: Send) -> None:
    """Accept the client's WebSocket with what the runtime chose for its own, and connect the two.

    A refusal by the runtime is passed on with its status, but without its body. `opening` opens the runtime's.

    Raises:
        ModelError: the runtime did not answer.
    """
    try:
        runtime, answered = await opening
    except aiohttp.WSServerHandshakeError as error:
        await _refused(error)(scope, receive, send)
        return
    except ModelError as error:
        _log.warning("Runtime did not answer", kind=error.kind, upstream=for_log(error.upstream or ""))
        raise
    try:
        await send(
            {
                "type": "http.response.start",
                "status": SWITCHED,
                "subprotocol": runtime.protocol,
                "headers": _passed(answered),
            }
        )
        await _connect(runtime, receive, send)
    except OSError:
        pass  # the client is gone: uvicorn raises an OSError in `send`
    finally:
        await runtime.close(code=_GOING_AWAY)


async def _connect(runtime: aiohttp.ClientWebSocketResponse, receive: Receive, send: Send) -> None:
    """Pass messages on until one side closes."""
    left = asyncio.Event()
    to_runtime = asyncio.create_task(_to_runtime(runtime, receive, left))
    to_client = asyncio.create_task(_to_client(runtime, send, left))
    tasks = (to_runtime, to_client)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, OSError):
            raise result


async def _to_runtime(runtime: aiohttp.ClientWebSocketResponse, receive: Receive, left: asyncio.Event) -> None:
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            left.set()
            code, reason = _code_for_runtime(message)
            await runtime.close(code=code, message=reason)
            return
        try:
            if message.get("text") is not None:
                await runtime.send_str(message["text"])
            elif message.get("bytes") is not None:
                await runtime.send_bytes(message["bytes"])
        except (aiohttp.ClientError, ConnectionError):
            # The runtime has closed. Its close code is among what is read from it.
            await asyncio.Event().wait()


async def _to_client(runtime: aiohttp.ClientWebSocketResponse, send: Send, left: asyncio.Event) -> None:
    while True:
        message = await runtime.receive()
        if left.is_set():
            return
        if message.type is aiohttp.WSMsgType.TEXT:
            await send({"type": "websocket.send", "text": message.data})
        elif message.type is aiohttp.WSMsgType.BINARY:
            await send({"type": "websocket.send", "bytes": message.data})
        else:
            await send({"type": "websocket.close", **_close_for_client(message)})
            return


def _code_for_runtime(message: Message) -> tuple[int, bytes]:
    """Return the code and the reason with which to close the runtime's side; some codes cannot be sent (7.4.1)."""
    code = message.get("code") or _NORMAL
    reason = (message.get("reason") or "").encode()
    if code == _NONE_SENT:
        return _NORMAL, b""
    return (_GOING_AWAY, b"") if code == _LOST else (code, reason)


def _close_for_client(message: aiohttp.WSMessage) -> Mapping[str, object]:
    """Return the code and the reason with which to close the client's side."""
    if message.type is aiohttp.WSMsgType.CLOSE:
        if message.data in {0, _NONE_SENT}:
            return {"code": None}
        return {"code": message.data, "reason": message.extra or ""}
    error = message.data
    if isinstance(error, aiohttp.WebSocketError) and error.code == _TOO_BIG:
        return {"code": _TOO_BIG, "reason": "A message of the agent's runtime is too large."}
    return {"code": _BAD_GATEWAY, "reason": "The agent's runtime closed the connection."}


def _passed(answered: Headers) -> list[tuple[bytes, bytes]]:
    """Return the headers of the runtime's answer, such as cookies, except those of its own handshake."""
    try:
        headers = for_client(answered, has_body=False)
    except ValueError as error:
        raise errors.unreadable(str(error)) from None
    return [(name, value) for name, value in headers if name not in _HANDSHAKE]


def _refused(error: aiohttp.WSServerHandshakeError) -> JSONResponse:
    if _FIRST_ERROR <= error.status < _AFTER_LAST:
        detail = f"The agent's runtime refused the WebSocket ({error.status})."
        return JSONResponse({"detail": detail}, status_code=error.status)
    return JSONResponse({"detail": "The agent's runtime did not open a WebSocket."}, status_code=_FAILED)
