"""Everything that is not the agent's own, with RUNTIME_PROTOCOL=http: passed to the runtime, as a reverse proxy.

| limit | value |
|---|---|
| until the response begins, and the longest silence in it | REQUEST_TIMEOUT_SECONDS |
| the whole response | the longer of REQUEST_TIMEOUT_SECONDS and STREAM_TIMEOUT_SECONDS |
| a request's body | MAX_BODY_BYTES, within REQUEST_TIMEOUT_SECONDS |
| a WebSocket | no time limit, 16 MiB a message |
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import structlog
from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from agent_service.agent.errors import ModelError
from agent_service.components import Components
from agent_service.middleware.identify import CLIENT, TRUSTED
from agent_service.middleware.upgrade import SUBPROTOCOLS
from agent_service.paths import Paths
from agent_service.routes.disconnect import CLIENT_CLOSED_REQUEST, ClientGoneError, WhileConnected
from agent_service.routes.websocket import relay
from agent_service.runtime import errors
from agent_service.runtime.proxy.headers import Sender, body_length, for_client, for_runtime
from agent_service.runtime.proxy.target import BadTargetError, ReservedError, target
from agent_service.runtime.proxy.upstream import Upstream
from agent_service.telemetry.redact import for_log

_log = structlog.get_logger(__name__)

_FOREIGN = "This page may not open a WebSocket here. If it belongs to the agent, add its origin to CORS_ORIGINS."

RESERVED = "This agent's runtime speaks plain HTTP (RUNTIME_PROTOCOL=http), so the agent has no chat and no tasks."

_BODILESS = frozenset({204, 304})
_FIRST_FINAL = 200
_AFTER_LAST = 600

router = APIRouter(include_in_schema=False)


@router.api_route("/chat", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@router.api_route("/chat/stream", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@router.api_route("/tasks", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@router.api_route("/tasks/{rest:path}", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def reserved() -> Response:
    """Answer that this agent has neither chat nor tasks."""
    return JSONResponse({"detail": RESERVED}, status_code=404)


@dataclass(frozen=True, slots=True)
class _Route:
    """What metrics and logs show of a request to the runtime, whatever its path."""

    path: str = "/{runtime path}"


_ROUTE = _Route()


class Proxy:
    """An ASGI app that passes requests to the runtime."""

    def __init__(self, components: Components, paths: Paths) -> None:
        settings = components.settings
        if settings.runtime_url is None:
            raise ValueError("A proxy needs the address of a runtime.")
        self._clients = components.clients
        self._metrics = components.metrics
        self._paths = paths
        self._origins = settings.cors_origins
        self._prefix = (settings.runtime_path or "/").rstrip("/")
        self._silence_seconds = settings.request_timeout_seconds
        self._total_seconds = settings.longest_answer_seconds
        self._upstream = Upstream(settings.runtime_url, answer_seconds=settings.request_timeout_seconds)

    async def aclose(self) -> None:
        """Close all connections to the runtime."""
        await self._upstream.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request (ASGI)."""
        if scope["type"] != "http":
            raise ValueError("Only requests are passed on; `Upgrade` makes a WebSocket one.")
        scope["route"] = _ROUTE
        try:
            where = target(self._prefix, scope["raw_path"], scope["query_string"], self._paths.is_reserved)
            length = body_length(scope["headers"])
        except (BadTargetError, ValueError) as error:
            await _refuse(400, str(error))(scope, receive, send)
            return
        except ReservedError:
            await _refuse(404, "This path is another spelling of one of the agent's own.")(scope, receive, send)
            return
        if scope["method"] == "CONNECT":
            await _refuse(405, "This service opens no tunnels.")(scope, receive, send)
        elif SUBPROTOCOLS in scope:
            await self._websocket(scope, receive, send, where)
        else:
            await self._request(scope, receive, send, where, length)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send, where: str) -> None:
        sender = _sender(scope)
        if not scope[CLIENT].key and self._is_foreign(scope, sender.host):
            await _refuse(403, _FOREIGN)(scope, receive, send)
            return
        headers = for_runtime(scope["headers"], sender, self._is_key, websocket=True)
        await relay(self._upstream.websocket(where, headers, scope[SUBPROTOCOLS]), scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send, where: str, length: int | None) -> None:
        headers = for_runtime(scope["headers"], _sender(scope), self._is_key)
        if length:
            headers["Content-Length"] = str(length)
        exchange = _Exchange(receive, send, has_body=length != 0)
        try:
            async with WhileConnected(exchange.after_body):
                body = exchange.body() if exchange.has_body else None
                response = await self._upstream.request(scope["method"], where, headers, body)
                try:
                    await self._answer(response, exchange)
                finally:
                    response.close()
        except (ModelError, ClientGoneError) as error:
            if exchange.started:
                return
            # A fault of the client's body comes first: it ends the runtime's request too.
            reason = exchange.fault or error
            if isinstance(reason, ClientGoneError):
                await Response(status_code=CLIENT_CLOSED_REQUEST)(scope, receive, send)
                return
            if isinstance(reason, ModelError):
                _log.warning("Runtime did not answer", kind=reason.kind, upstream=for_log(reason.upstream or ""))
            raise reason from error

    async def _answer(self, response: aiohttp.ClientResponse, exchange: "_Exchange") -> None:
        """Pass the response on as it arrives. If it breaks off, its connection is closed before its end."""
        has_body = response.status not in _BODILESS
        if not _FIRST_FINAL <= response.status < _AFTER_LAST:
            raise errors.unreadable("has a status that is not valid")
        try:
            headers = for_client(response.raw_headers, has_body=has_body)
        except ValueError as error:
            raise errors.unreadable(str(error)) from None
        await exchange.start(response.status, headers)
        try:
            async with asyncio.timeout(self._total_seconds):
                while chunk := await self._next(response):
                    await exchange.write(chunk)
        except (aiohttp.ClientError, OSError) as error:
            self._metrics.stream_errors.inc()
            _log.warning("Runtime's response was cut off", reason=type(error).__name__, upstream=for_log(str(error)))
        else:
            await exchange.write(b"", more=False)

    async def _next(self, response: aiohttp.ClientResponse) -> bytes:
        async with asyncio.timeout(self._silence_seconds):
            return await response.content.readany()

    def _is_foreign(self, scope: Scope, host: str) -> bool:
        """Return whether a page of another site opens a WebSocket. Browsers allow it, unlike other requests."""
        origin = _last(scope, b"origin")
        known = not origin or "*" in self._origins or origin in self._origins
        return not known and urlsplit(origin).netloc.lower() != host.lower()

    def _is_key(self, name: bytes, value: bytes) -> bool:
        """Return whether a header carries a client key, or is meant for one."""
        if name == b"x-api-key":
            return self._clients.need_keys
        return name == b"authorization" and self._clients.identify([(name, value)], None).key


class _Exchange:
    """A request's body and its answer. `fault` is what was wrong with the body, or that its sender has left."""

    def __init__(self, receive: Receive, send: Send, *, has_body: bool) -> None:
        self._receive = receive
        self._send = send
        self._whole = asyncio.Event()
        self.has_body = has_body
        self.started = False
        self.fault: HTTPException | ClientGoneError | None = None
        if not has_body:
            self._whole.set()

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives, and only as fast as the runtime takes it."""
        more = True
        while more:
            try:
                message = await self._receive()
            except HTTPException as error:
                self.fault = error
                raise
            if message["type"] == "http.disconnect":
                self.fault = ClientGoneError()
                raise self.fault
            more = message.get("more_body", False)
            if message.get("body"):
                yield message["body"]
        self._whole.set()

    async def after_body(self) -> Message:
        """Return the next message after the body, such as the disconnect."""
        await self._whole.wait()
        return await self._receive()

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Send the status and the headers."""
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes, *, more: bool = True) -> None:
        """Send a part of the body, when the client has read enough of the previous ones."""
        await self._send({"type": "http.response.body", "body": data, "more_body": more})


def _sender(scope: Scope) -> Sender:
    host = _last(scope, b"x-forwarded-host") if scope[TRUSTED] else ""
    return Sender(
        address=scope["client"][0] if scope.get("client") else "unknown",
        scheme=scope["scheme"],
        host=host or _last(scope, b"host"),
        request_id=structlog.contextvars.get_contextvars().get("request_id", ""),
    )


def _last(scope: Scope, wanted: bytes) -> str:
    """Return the last value of a header that may be a list; empty if it is missing."""
    values: list[bytes] = [value for name, value in scope["headers"] if name == wanted]
    return b",".join(values).rpartition(b",")[2].decode("latin-1").strip()


def _refuse(status: int, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status_code=status)
