"""The listener of the gateway: on 127.0.0.1 only, for programs and not for browsers, with a bound of connections."""

import asyncio
import re
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING

import structlog
from aiohttp import web
from prometheus_client import Counter

from agent_service.agent.turns import Turn, Turns
from agent_service.gateway import forms, model_list
from agent_service.gateway.asgi import ANSWERED
from agent_service.gateway.attribution import turn_of
from agent_service.gateway.calls import Calls
from agent_service.gateway.forms import Form, RefusedError
from agent_service.lifecycle import Lifecycle
from agent_service.telemetry.logs import where
from agent_service.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from agent_service.gateway.mcp.endpoint import Endpoint

_log = structlog.get_logger(__name__)

HOST = "127.0.0.1"

# Another name that resolves to this address is that of a page which tries to reach it (DNS rebinding).
_LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)

_CHAT, _MESSAGES, _COUNT = "/v1/chat/completions", "/v1/messages", "/v1/messages/count_tokens"
_MODELS, _MODEL, _HEALTH, _MCP = "/v1/models", "/v1/models/", "/health", "/mcp"

# An id that a caller may choose, for logs.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

_IDLE_SECONDS = 75.0
# Time to receive the rest of a body whose call was refused. If the connection was closed while the client still sends,
# the answer could be lost with it (RFC 9112, 9.6).
_LINGER_SECONDS = 10.0
# Time to send the rest of an answer at the end.
_END_SECONDS = 1.0
_BACKLOG = 2048
_ANSWERED, _LEFT = 200, 499


class Gateway:
    """Serves the routes of the gateway."""

    def __init__(
        self,
        calls: Calls,
        turns: Turns,
        lifecycle: Lifecycle,
        metrics: Metrics,
        *,
        port: int,
        most: int,
        connections: int,
        tools: "Endpoint | None" = None,
    ) -> None:
        """Set up the gateway.

        Args:
            calls: makes the calls.
            turns: the turns in progress.
            lifecycle: counts the calls in flight, which draining waits for.
            metrics: counts the requests.
            port: port to listen on if `running` gets no socket; 0 for any free one, which `port` is once it runs.
            most: largest number of calls in flight.
            connections: largest number of open connections.
            tools: answers the requests of MCP clients; None if the agent has no tools.
        """
        self.port = port
        self._calls = calls
        self._turns = turns
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._most = most
        self._connections = connections
        self._tools = tools
        self._counters: dict[tuple[str, int], Counter] = {}

    @asynccontextmanager
    async def running(self, listener: socket.socket | None = None) -> AsyncIterator[None]:
        """Listen while the context lasts, on a bound socket if there is one. At its end, calls in flight are cut."""
        listener = listener or socket.create_server((HOST, self.port), backlog=_BACKLOG)
        self.port = listener.getsockname()[1]
        server = web.Server(
            self._handle,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=_IDLE_SECONDS,
            lingering_time=_LINGER_SECONDS,
        )

        def accept() -> asyncio.Protocol:
            return server() if len(server.connections) < self._connections else _Refused()

        listening = await asyncio.get_running_loop().create_server(accept, sock=listener, backlog=_BACKLOG)
        _log.info("Gateway started", url=f"http://{HOST}:{self.port}", models=list(self._calls.terms.models))
        try:
            async with nullcontext() if self._tools is None else self._tools.running():
                try:
                    yield
                finally:
                    listening.close()
                    server.pre_shutdown()
                    if self._tools is not None:
                        self._tools.end_streams()
                    await server.shutdown(_END_SECONDS)
        finally:
            await self._calls.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        route = _route(path)
        status = _LEFT
        turn = turn_of(request.headers, self._turns)
        request_id = _request_id(request, turn)
        # aiohttp handles each request in a task of its own, with a context that ends with it.
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            response = await self._answer(request, path, turn)
            status = response.status
        except RefusedError as refusal:
            status = refusal.status
            response = forms.error(_form(request, path), refusal, request_id)
        except ConnectionError:
            raise
        except Exception as error:
            _log.error("Request of the runtime failed", route=route, error=type(error).__name__, where=where(error))
            status = 500
            if request.writer.output_size:
                # Part of the answer was sent. Only a broken connection can still show that it is incomplete.
                raise
            failed = RefusedError(status, "api_error", "The gateway failed; its log says why.")
            response = forms.error(_form(request, path), failed, request_id)
        finally:
            self._count(route, _ANSWERED if status == _LEFT and ANSWERED in request else status)
        return response

    def _count(self, route: str, status: int) -> None:
        # `labels` takes longer than `inc`, and there are few routes and statuses.
        counter = self._counters.get((route, status))
        if counter is None:
            counter = self._counters[route, status] = self._metrics.gateway_requests.labels(route, str(status))
        counter.inc()

    async def _answer(self, request: web.BaseRequest, path: str, turn: Turn | None) -> web.StreamResponse:
        _check_caller(request)
        if path == _MCP:
            if self._tools is None:
                raise RefusedError(404, "not_found_error", "This agent has no tools; set `tools` of the agent.")
            return await self._tools.answer(request, turn, self._counted)
        return await self._answer_of_model_api(request, path, turn)

    async def _answer_of_model_api(self, request: web.BaseRequest, path: str, turn: Turn | None) -> web.StreamResponse:
        if request.method == "POST":
            if path == _MESSAGES:
                return await self._counted(lambda: self._calls.ask(request, Form.MESSAGES, turn))
            if path == _CHAT:
                return await self._counted(lambda: self._calls.ask(request, Form.CHAT_COMPLETIONS, turn))
            if path == _COUNT:
                return await self._counted(lambda: self._calls.count_tokens(request))
        elif request.method == "GET":
            if path == _HEALTH:
                return forms.answer({"status": "ok"})
            if path == _MODELS:
                return forms.answer(model_list.models(self._calls.terms.models))
            if path.startswith(_MODEL):
                return self._model(path.removeprefix(_MODEL))
        routes = f"POST {_MESSAGES}, {_COUNT} and {_CHAT}, GET {_MODELS}, and {_MCP}"
        message = f"The gateway has no such route. It has {routes}."
        raise RefusedError(404, "not_found_error", message)

    def _model(self, name: str) -> web.Response:
        if name not in self._calls.terms.models:
            allowed = ", ".join(self._calls.terms.models)
            raise RefusedError(
                404, "not_found_error", f"model: this agent may not call this model. It may call: {allowed}."
            )
        return forms.answer(model_list.model(name))

    async def _counted(self, call: Callable[[], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        if self._lifecycle.calls >= self._most:
            message = f"The runtime has {self._most} calls in flight, which is its limit; try again in a moment."
            raise RefusedError(429, "rate_limit_error", message, {"Retry-After": "1"})
        self._lifecycle.calls += 1
        try:
            return await call()
        finally:
            self._lifecycle.calls -= 1


class _Refused(asyncio.Protocol):
    """A connection beyond the bound."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it."""
        transport.close()


def _check_caller(request: web.BaseRequest) -> None:
    """Raise RefusedError for a request that only a browser sends: the runtime needs no page of another origin."""
    hosts = request.headers.getall("Host", [])
    if len(hosts) != 1 or not _LOOPBACK.fullmatch(hosts[0]):
        raise RefusedError(421, "invalid_request_error", "The gateway answers only to localhost, 127.0.0.1 and [::1].")
    if "Origin" in request.headers:
        raise RefusedError(403, "permission_error", "The gateway does not answer to pages in browsers.")


def _route(path: str) -> str:
    """Return the route of a path, of which there are few, for the metrics."""
    if path in {_MESSAGES, _COUNT, _CHAT, _MODELS, _HEALTH, _MCP}:
        return path
    return f"{_MODEL}{{id}}" if path.startswith(_MODEL) else "unmatched"


def _form(request: web.BaseRequest, path: str) -> Form:
    if path == _MCP:
        return Form.MCP
    if path == _CHAT or (path not in {_MESSAGES, _COUNT} and "anthropic-version" not in request.headers):
        return Form.CHAT_COMPLETIONS
    return Form.MESSAGES


def _request_id(request: web.BaseRequest, turn: Turn | None) -> str:
    if turn is not None and turn.request_id is not None:
        return turn.request_id
    received = request.headers.get("X-Request-ID", "")
    return received if _REQUEST_ID.fullmatch(received) else secrets.token_hex(16)
