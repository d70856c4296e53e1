"""The tools of a file as an MCP server, on the official SDK."""

import asyncio
from pathlib import Path
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ToolsListChanged
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    Tool,
)
from starlette.requests import Request

from agent_service import __version__
from agent_service.python_file.agent_file import AgentFile
from agent_service.python_file.callers import BROKEN
from agent_service.python_file.loading import FileError
from agent_service.python_file.local_tools.calls import call
from agent_service.python_file.local_tools.definitions import LocalTools
from agent_service.python_file.local_tools.results import failed
from agent_service.python_file.local_tools.threads import Threads

_Context = ServerRequestContext[Any, Any]
_LOOK_SECONDS = 1.0
_LEFT = "The caller has disconnected."


class ToolServer:
    """Answers the requests of MCP for the tools of a file."""

    def __init__(self, agent: AgentFile[LocalTools]) -> None:
        self._agent = agent
        self._threads = Threads()
        self._bus = InMemorySubscriptionBus()
        self._listening = ListenHandler(self._bus)
        self.server: Server[Any] = Server(
            Path(agent.path).stem,
            version=__version__,
            on_list_tools=self._list,
            on_call_tool=self._call,
            on_subscriptions_listen=self._listening,
        )

    async def report_changes(self) -> None:
        """Inform the clients when the tools have changed, until cancelled."""
        offered = self._offered()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if (now := self._offered()) != offered:
                offered = now
                await self._bus.publish(ToolsListChanged())

    def end_listening(self) -> None:
        """End the streams of changes, which would otherwise last as long as their clients."""
        self._listening.close()

    async def _list(self, _: _Context, __: PaginatedRequestParams | None) -> ListToolsResult:
        offered = self._offered()
        if offered is None:
            raise MCPError(INTERNAL_ERROR, BROKEN)
        return ListToolsResult(tools=offered)

    def _offered(self) -> list[Tool] | None:
        try:
            tools = self._agent.current()
        except FileError:
            return None
        return [
            Tool(name=each.name, description=each.description, input_schema=dict(each.arguments.schema))
            for each in tools.values()
        ]

    async def _call(self, context: _Context, params: CallToolRequestParams) -> CallToolResult:
        try:
            tool = self._agent.current().get(params.name)
        except FileError:
            return failed(BROKEN)
        if tool is None:
            raise MCPError(INVALID_PARAMS, f"Unknown tool: {params.name[:64]}")
        calling = asyncio.create_task(call(tool, params.arguments or {}, self._threads, self._agent.path))
        leaving = asyncio.create_task(_disconnected(context.request))
        try:
            await asyncio.wait({calling, leaving}, return_when=asyncio.FIRST_COMPLETED)
            return calling.result() if calling.done() else failed(_LEFT)
        finally:
            calling.cancel()
            leaving.cancel()


async def _disconnected(request: Request | None) -> None:
    """Wait until the caller has disconnected. Of the earlier revisions, the SDK itself would not notice."""
    if request is None:
        await asyncio.Event().wait()
    while request is not None and (await request.receive())["type"] != "http.disconnect":
        pass
