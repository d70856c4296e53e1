"""Puts a server that speaks standard input and output behind HTTP. Its argument is JSON: `port` and `command`."""

import asyncio
import json
import os
import sys
from typing import Any

import uvicorn
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.server import Server
from mcp_types import CallToolRequestParams, CallToolResult, ListToolsResult, PaginatedRequestParams


async def main() -> None:
    options = json.loads(sys.argv[1])
    program, *arguments = options["command"]
    async with Client(StdioServerParameters(command=program, args=arguments, env=dict(os.environ))) as client:

        async def list_tools(_: Any, params: PaginatedRequestParams | None) -> ListToolsResult:
            return await client.list_tools(cursor=None if params is None else params.cursor)

        async def call_tool(_: Any, params: CallToolRequestParams) -> CallToolResult:
            return await client.call_tool(params.name, params.arguments)

        server = Server("bridge", on_list_tools=list_tools, on_call_tool=call_tool)
        config = uvicorn.Config(server.streamable_http_app(), port=options["port"], log_level="warning")
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    asyncio.run(main())
