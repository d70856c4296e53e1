"""The HTTP interface of a file's tools: MCP over streamable HTTP, and a path for probes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from agent_service.python_file.agent_file import AgentFile
from agent_service.python_file.callers import refusal
from agent_service.python_file.local_tools.definitions import LocalTools
from agent_service.python_file.local_tools.mcp_server import ToolServer
from agent_service.python_file.ping import ping

PATH = "/mcp"

_MOST_BODY_BYTES = 16 * 2**20


def create(agent: AgentFile[LocalTools], tools: ToolServer, *, reload: bool, loopback_only: bool) -> Starlette:
    """Return the application.

    Args:
        agent: the file.
        tools: the MCP server for it.
        reload: inform the clients when the file's tools have changed.
        loopback_only: refuse requests to the tools from other machines; `GET /ping` is answered to all.
    """
    # Without sessions any process can answer, also after a restart.
    manager = StreamableHTTPSessionManager(tools.server, stateless=True, max_request_body_size=_MOST_BODY_BYTES)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with manager.run():
            reporting = asyncio.create_task(tools.report_changes()) if reload else None
            yield
            if reporting is not None:
                reporting.cancel()

    async def answer_ping(_: Request) -> JSONResponse:
        status, body = ping(agent)
        return JSONResponse(body, status_code=status)

    mcp = _Guarded(StreamableHTTPASGIApp(manager), loopback_only=loopback_only)
    return Starlette(routes=[Route("/ping", answer_ping), Route(PATH, mcp)], lifespan=lifespan)


class _Guarded:
    """Refuses requests of web pages, and of other machines where that is wanted."""

    def __init__(self, app: StreamableHTTPASGIApp, *, loopback_only: bool) -> None:
        self._app = app
        self._loopback_only = loopback_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        address = request.client.host if request.client else None
        if fault := refusal(request.headers, address, loopback_only=self._loopback_only):
            await JSONResponse({"error": fault}, status_code=403)(scope, receive, send)
            return
        # Without sessions there is nothing to send but answers. A stream that stays open would delay the end.
        if request.method != "POST":
            await Response(status_code=405, headers={"Allow": "POST"})(scope, receive, send)
            return
        await self._app(scope, receive, send)
