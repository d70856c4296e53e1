"""The path `/mcp` of the gateway: HTTP in front of the MCP server.

Nothing is kept between requests, so that a client goes on after a restart of this process, and in each of several
processes. A client of the revision with sessions gets the id of one, but it is only a label: it relates a
cancellation to its call, and lets the client wait for changes of the list.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import mcp_types as types
import orjson
from aiohttp import web
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from agent_service.agent.turns import Turn
from agent_service.gateway import asgi
from agent_service.gateway.bodies import Bodies
from agent_service.gateway.forms import RefusedError
from agent_service.gateway.mcp.server import ToolServer
from agent_service.mcp_server.running import running
from agent_service.mcp_server.sessions import SESSION, message_of, new_session

# The SDK's own default. Arguments come from a model, and no model writes this much at once.
_LARGEST_BYTES = 4 * 2**20
_PING_SECONDS = 15.0
_EVENTS = "text/event-stream"
_CHANGED = b"event: message\r\ndata: %s\r\n\r\n" % (
    orjson.dumps({"jsonrpc": "2.0", "method": types.ToolListChangedNotification().method})
)

Counted = Callable[[Callable[[], Awaitable[web.StreamResponse]]], Awaitable[web.StreamResponse]]


class Endpoint:
    """Answers the requests to `/mcp`."""

    def __init__(self, server: ToolServer, bodies: Bodies, *, most_listeners: int) -> None:
        """Take the server, the bounds of bodies, and how many clients may wait for changes of the list."""
        self._server = server
        self._bodies = bodies
        self._most_listeners = most_listeners
        self._listeners = 0
        self._ended = asyncio.Event()
        self._manager = StreamableHTTPSessionManager(
            server.protocol(), stateless=True, max_request_body_size=_LARGEST_BYTES
        )

    def running(self) -> AbstractAsyncContextManager[None]:
        """Answer requests while the context lasts."""
        return running(self._manager, self._server.changes.watch)

    def end_streams(self) -> None:
        """End the streams of clients that wait for changes, of which none ends by itself."""
        self._server.listeners.close()
        self._ended.set()

    async def answer(self, request: web.BaseRequest, turn: Turn | None, counted: Counted) -> web.StreamResponse:
        """Answer a request. One that waits for changes of the list does not count as a call in flight.

        Raises:
            RefusedError: when it is refused before it reaches the MCP server.
            ConnectionError: when the caller has left.
        """
        modern = request.headers.get("MCP-Protocol-Version") in MODERN_PROTOCOL_VERSIONS
        if request.method == "GET" and not modern and _EVENTS in request.headers.get("Accept", ""):
            return await self._report_changes(request)
        # The SDK refuses a request whose body has another method than this header.
        if modern and request.headers.get("Mcp-Method") == "subscriptions/listen":
            request[asgi.ANSWERED] = True
            return await self._respond(request, turn)
        return await counted(lambda: self._respond(request, turn))

    async def _respond(self, request: web.BaseRequest, turn: Turn | None) -> web.StreamResponse:
        with self._bodies.holding() as held:
            body = await held.read(request, _LARGEST_BYTES)
            session = request.headers.get(SESSION)
            headers: dict[str, str] = {}
            message = message_of(body)
            if message.method == "initialize" and session is None:
                headers[SESSION] = new_session()
            elif message.method == "notifications/cancelled" and session is not None:
                self._server.cancel(session, message.params.get("requestId"))
            state = {"turn": turn, "on_answer": lambda: request.__setitem__(asgi.ANSWERED, True)}
            return await asgi.respond(self._manager.handle_request, request, body, state=state, headers=headers)

    async def _report_changes(self, request: web.BaseRequest) -> web.StreamResponse:
        """Send a notification after each change of the list, until the client leaves."""
        if self._listeners >= self._most_listeners:
            message = f"{self._most_listeners} clients wait for changes, which is the limit; try again in a moment."
            raise RefusedError(429, "rate_limit_error", message, {"Retry-After": "1"})
        changed = asyncio.Event()
        response = web.StreamResponse(
            headers={"Content-Type": _EVENTS, "Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
        )
        unsubscribe = self._server.changes.subscribe(lambda _: changed.set())
        self._listeners += 1
        try:
            request[asgi.ANSWERED] = True
            await response.prepare(request)
            while not self._ended.is_set():
                await _first_of(changed, self._ended)
                if changed.is_set():
                    changed.clear()
                    await response.write(_CHANGED)
                else:
                    await response.write(b": ping\r\n\r\n")
            await response.write_eof()
        finally:
            self._listeners -= 1
            unsubscribe()
        return response


async def _first_of(*events: asyncio.Event) -> None:
    """Wait until one of the events is set, for at most _PING_SECONDS."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, timeout=_PING_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()
