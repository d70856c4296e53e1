"""The path `/mcp`: HTTP in front of the MCP server.

Any replica answers any request, because nothing is kept between them. A client of the revisions with sessions gets the
id of one, but it is only a label, which relates a cancellation to its call.
"""

from collections.abc import MutableMapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from agent_service.compat.mcp.cancellations import Cancellations
from agent_service.compat.mcp.exchange import Exchange
from agent_service.compat.mcp.heartbeats import heartbeats
from agent_service.compat.mcp.server import AskServer
from agent_service.components import Components
from agent_service.mcp_server.running import running
from agent_service.mcp_server.sessions import SESSION, is_session, message_of, new_session
from agent_service.middleware.allowed_hosts import host_of
from agent_service.paths import MCP
from agent_service.routes.dependencies import owner
from agent_service.routes.disconnect import CLIENT_CLOSED_REQUEST

_FOREIGN = "Pages of this origin may not use the agent. If they should, add the origin to CORS_ORIGINS."
_NO_STREAM = "This server sends nothing by itself; send requests with POST."


class Endpoint:
    """Answers the requests to `/mcp` (ASGI)."""

    def __init__(self, components: Components) -> None:
        settings = components.settings
        self.route = Route(MCP, endpoint=self)
        self._heartbeat_seconds = settings.stream_heartbeat_seconds
        self._origins = frozenset(settings.cors_origins)
        self._cancellations = Cancellations(components.redis)
        # The bodies are bounded before they get here.
        self._manager = StreamableHTTPSessionManager(
            AskServer(components, self._cancellations).protocol(),
            stateless=True,
            max_request_body_size=settings.api_max_body_bytes,
        )

    def running(self) -> AbstractAsyncContextManager[None]:
        """Answer requests while the context lasts."""
        return running(self._manager)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        # For the labels of the metrics and the log; Starlette's own routes do not set it.
        scope["route"] = self.route
        request = Request(scope, receive)
        self._check(request)
        try:
            body = await request.body()
        except ClientDisconnect:
            await Response(status_code=CLIENT_CLOSED_REQUEST)(scope, receive, send)
            return
        headers: dict[str, str] = {}
        session = request.headers.get(SESSION, "")
        label = f"{owner(request)}/{session}" if is_session(session) else ""
        message = message_of(body)
        if message.method == "initialize" and not session:
            headers[SESSION] = new_session()
        elif message.method == "notifications/cancelled" and label:
            await self._cancellations.cancel(label, message.params.get("requestId"))
        exchange = Exchange(label)
        exchange.keep_in(scope)
        try:
            async with heartbeats(_adding(headers, send), self._heartbeat_seconds) as send_between:
                await self._manager.handle_request(_trimmed(scope), _after(body, receive), send_between)
        finally:
            exchange.end()

    def _check(self, request: Request) -> None:
        """Check what the SDK does not.

        Raises:
            HTTPException: if the request comes from a page that may not send it, or is not a POST.
        """
        origin = request.headers.get("origin")
        if origin is not None and not self._is_ours(origin, request):
            raise HTTPException(403, _FOREIGN)
        if request.method != "POST":
            raise HTTPException(405, _NO_STREAM, headers={"Allow": "POST"})

    def _is_ours(self, origin: str, request: Request) -> bool:
        """Return whether a page may send requests: one of the allowed origins, or of the host of this agent.

        Only the names are compared, because a proxy may have another scheme and port. The host itself is checked for
        all paths (`AllowedHosts`).
        """
        if origin in self._origins or "*" in self._origins:
            return True
        return host_of(origin.partition("://")[2]) == host_of(request.headers.get("host", ""))


def _trimmed(scope: Scope) -> Scope:
    """Return a request without the white space around the values of its headers (RFC 9110, 5.5), which the SDK reads.

    The server's parser leaves it at their end.
    """
    return {**scope, "headers": [(name, value.strip(b" \t")) for name, value in scope["headers"]]}


def _after(body: bytes, receive: Receive) -> Receive:
    """Return a function that receives a body that was read, and then what comes after it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def _adding(headers: dict[str, str], send: Send) -> Send:
    """Return a function that sends a response with further headers."""

    async def send_with_headers(message: MutableMapping[str, Any]) -> None:
        if headers and message["type"] == "http.response.start":
            found = MutableHeaders(raw=list(message.get("headers", ())))
            found.update(headers)
            message["headers"] = found.raw
        await send(message)

    return send_with_headers
