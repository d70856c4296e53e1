"""Everything that is not the agent's own, with RUNTIME_PROTOCOL=http: passed to the runtime, as a reverse proxy.

| limit | value |
|---|---|
| until the response begins, and the longest silence in it | REQUEST_TIMEOUT_SECONDS |
| the whole response | the longer of REQUEST_TIMEOUT_SECONDS and STREAM_TIMEOUT_SECONDS |
| a request's body | MAX_BODY_BYTES, within REQUEST_TIMEOUT_SECONDS |
| a WebSocket | no time limit, 16 MiB a message |
"""

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

import aiohttp
import structlog
from fastapi import APIRouter
from multidict import CIMultiDict
from opentelemetry.trace import get_current_span
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from agent_service.agent.errors import ModelError
from agent_service.agent.messages import Usage
from agent_service.agent.turns import Turn
from agent_service.auth.clients import shown_keys
from agent_service.components import Components
from agent_service.middleware.identify import CLIENT, TRUSTED
from agent_service.middleware.upgrade import SUBPROTOCOLS
from agent_service.paths import Paths
from agent_service.routes.disconnect import CLIENT_CLOSED_REQUEST, ClientGoneError, WhileConnected
from agent_service.routes.exchange import Exchange
from agent_service.routes.websocket import relay
from agent_service.runtime import errors
from agent_service.runtime.headers import of_request, request_id, trace
from agent_service.runtime.proxy.headers import Sender, body_length, for_client, for_runtime
from agent_service.runtime.proxy.target import BadTargetError, ReservedError, target
from agent_service.runtime.proxy.upstream import Upstream
from agent_service.telemetry.redact import for_log

_log = structlog.get_logger(__name__)

_FOREIGN = "This page may not open a WebSocket here. If it belongs to the agent, add its origin to CORS_ORIGINS."

RESERVED = "This agent's runtime speaks plain HTTP (RUNTIME_PROTOCOL=http), so the agent has no chat and no tasks."

# For calls of the gateway, which need some deadline. The WebSocket itself has none.
_WEBSOCKET_SECONDS = 365 * 86_400.0

# W3C Trace Context, 3.2.2.
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")

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
        self._turns = components.turns
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
        websocket = SUBPROTOCOLS in scope
        sender = _sender(scope)
        if scope["method"] == "CONNECT":
            await _refuse(405, "This service opens no tunnels.")(scope, receive, send)
            return
        if websocket and not scope[CLIENT].known and self._is_foreign(scope, sender.host):
            await _refuse(403, _FOREIGN)(scope, receive, send)
            return
        seconds = _WEBSOCKET_SECONDS if websocket else self._total_seconds
        with self._turns.begin(_turn(scope, seconds)) as turn, self._counted():
            of_turn = of_request(turn)
            headers = for_runtime(scope["headers"], sender, of_turn, partial(self._is_key, scope), websocket=websocket)
            if websocket:
                await relay(self._upstream.websocket(where, headers, scope[SUBPROTOCOLS]), scope, receive, send)
            else:
                await self._request(Exchange(scope, receive, send, length), where, headers)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count a request by its outcome. What the runtime answers is its own matter, and is counted by status."""
        outcome = ModelError.outcome
        try:
            yield
            outcome = "ok"
        except ModelError as error:
            outcome = error.outcome
            raise
        except (HTTPException, asyncio.CancelledError):
            outcome = "cancelled"
            raise
        finally:
            self._metrics.runtime_requests.labels("http", outcome).inc()

    async def _request(self, exchange: Exchange, where: str, headers: CIMultiDict[str]) -> None:
        if exchange.length:
            headers["Content-Length"] = str(exchange.length)
        try:
            async with WhileConnected(exchange.after_body):
                body = exchange.body() if exchange.has_body else None
                response = await self._upstream.request(exchange.method, where, headers, body)
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
                await exchange.end(CLIENT_CLOSED_REQUEST)
                return
            if isinstance(reason, ModelError):
                _log.warning("Runtime did not answer", kind=reason.kind, upstream=for_log(reason.upstream or ""))
            raise reason from error

    async def _answer(self, response: aiohttp.ClientResponse, exchange: Exchange) -> None:
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

    def _is_key(self, scope: Scope, name: bytes, value: bytes) -> bool:
        """Return whether a header carries a client key or a token for this agent alone, or is meant for a key."""
        if name == b"x-api-key":
            return self._clients.need_keys
        shown = shown_keys([(name, value)])
        return bool(shown) and (not scope[CLIENT].forwards or any(map(self._clients.has, shown)))


def _sender(scope: Scope) -> Sender:
    host = _last(scope, b"x-forwarded-host") if scope[TRUSTED] else ""
    return Sender(
        address=scope["client"][0] if scope.get("client") else "unknown",
        scheme=scope["scheme"],
        host=host or _last(scope, b"host"),
    )


def _turn(scope: Scope, seconds: float) -> Turn:
    """Return the turn to which the gateway attributes the calls of the runtime."""
    trace_id, traceparent = trace()
    received = _TRACEPARENT.fullmatch(_last(scope, b"traceparent"))
    if received is not None and not get_current_span().get_span_context().is_valid:
        # This service traces nothing, so the client's span is the parent of the runtime's.
        trace_id, traceparent = received[1], received[0]
    client = scope[CLIENT].id if scope[CLIENT].known else None
    return Turn(Usage(), time.time() + seconds, client, request_id(), trace_id, traceparent)


def _last(scope: Scope, wanted: bytes) -> str:
    """Return the last value of a header that may be a list; empty if it is missing."""
    values: list[bytes] = [value for name, value in scope["headers"] if name == wanted]
    return b",".join(values).rpartition(b",")[2].decode("latin-1").strip()


def _refuse(status: int, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status_code=status)
