"""Tool calls of a runtime: the official MCP client calls the gateway, with what identifies the turn."""

from collections.abc import Mapping
from typing import Any

import httpx2
import mcp_types as types
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

# A runtime passes on all three.
_PASSED_ON = ("baggage", "traceparent", "x-request-id")


async def call_tool(url: str, tool: str, given: dict[str, Any], headers: Mapping[str, str]) -> str:
    """Call a tool of the gateway at `url` for the turn with these headers, and return the text of the result."""
    passed = {name: headers[name] for name in _PASSED_ON if name in headers}
    async with (
        httpx2.AsyncClient(headers=passed, timeout=60, trust_env=False) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        result = await client.call_tool(tool, given)
    return "".join(block.text for block in result.content if isinstance(block, types.TextContent))
