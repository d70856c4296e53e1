"""The endpoints of A2A, by the SDK. It takes half a second to import, so the first request of A2A imports this."""

from collections.abc import Awaitable, Callable
from typing import cast

from a2a.server.context import ServerCallContext
from a2a.server.routes.common import DefaultServerCallContextBuilder
from a2a.server.routes.jsonrpc_dispatcher import JsonRpcDispatcher
from a2a.server.routes.rest_routes import create_rest_routes
from fastapi import Request, Response
from starlette.routing import Match, Route

from agent_service.compat.a2a.card import REST_PATH
from agent_service.compat.a2a.handler import HEADERS, OWNER, Handler
from agent_service.compat.a2a.stream import Stream
from agent_service.components import Components
from agent_service.routes.dependencies import owner
from agent_service.routes.disconnect import CLIENT_CLOSED_REQUEST, ClientGoneError, WhileConnected

_Endpoint = Callable[[Request], Awaitable[Response]]


class _Contexts(DefaultServerCallContextBuilder):
    """Adds the owner of the caller's tasks, and the place for further headers of the answer."""

    def build(self, request: Request) -> ServerCallContext:
        context = super().build(request)
        context.state[OWNER] = owner(request)
        context.state[HEADERS] = request.scope.setdefault(HEADERS, {})
        return context


class Server:
    """Answers requests of both bindings, in version 1.0 and 0.3."""

    def __init__(self, components: Components) -> None:
        self._heartbeat_seconds = components.settings.stream_heartbeat_seconds
        handler, contexts = Handler(components), _Contexts()
        self._rpc = JsonRpcDispatcher(handler, contexts, enable_v0_3_compat=True)
        routes = create_rest_routes(handler, contexts, enable_v0_3_compat=True, path_prefix=REST_PATH)
        # The last one is for tenants, which this agent has none of.
        self._rest = [route for route in routes if isinstance(route, Route)]

    async def rpc(self, request: Request) -> Response:
        """Answer a request of JSON-RPC."""
        return await self._answer(self._rpc.handle_requests, request)

    async def rest(self, request: Request) -> Response | None:
        """Answer a request of HTTP+JSON; return None if there is no such path and method."""
        for route in self._rest:
            match, scope = route.matches(request.scope)
            if match is Match.FULL:
                request.scope.update(scope)
                return await self._answer(cast("_Endpoint", route.endpoint), request)
        return None

    async def _answer(self, endpoint: _Endpoint, request: Request) -> Response:
        # The task goes on without its client, which can come back to it.
        await request.body()
        try:
            async with WhileConnected(request.receive):
                answer = await Stream.of(await endpoint(request), heartbeat_seconds=self._heartbeat_seconds)
        except ClientGoneError:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        answer.headers.update(request.scope.get(HEADERS, {}))
        return answer
