"""The agent's own MCP server as its clients see it: the official client, and requests as they are sent."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import mcp_types as types
from mcp import Client
from mcp.client.session import ElicitationFnT
from mcp.client.streamable_http import streamable_http_client

from support.tool_gateway import Revision

Body = dict[str, Any]

ACCEPTS = {"Accept": "application/json, text/event-stream"}
LIST: Body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
INITIALIZE: Body = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
MODERN = "2026-07-28"


@asynccontextmanager
async def mcp_client(
    url: str,
    revision: Revision = "auto",
    *,
    headers: Mapping[str, str] | None = None,
    elicit: ElicitationFnT | None = None,
) -> AsyncIterator[Client]:
    """Connect the official client to the agent at `url`; `elicit` answers its questions to the user."""
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False) as http,
        Client(
            streamable_http_client(f"{url}/mcp", http_client=http), mode=revision, elicitation_callback=elicit
        ) as client,
    ):
        yield client


def asked(message: str, identifier: int | str = 7, **arguments: str) -> Body:
    """Return a request that asks the agent, in the revision with sessions."""
    params = {"name": "ask", "arguments": {"message": message, **arguments}}
    return {"jsonrpc": "2.0", "id": identifier, "method": "tools/call", "params": params}


def modern(body: Body) -> tuple[Body, dict[str, str]]:
    """Return a request in the stateless revision, with its headers."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = body.get("params", {})
    headers = {**ACCEPTS, "MCP-Protocol-Version": MODERN, "Mcp-Method": body["method"]}
    if "name" in params:
        headers["Mcp-Name"] = params["name"]
    return {**body, "params": {**params, "_meta": meta}}, headers


def as_sent(revision: Revision, body: Body) -> tuple[Body, dict[str, str]]:
    """Return a request in a revision, with its headers."""
    return modern(body) if revision == "auto" else (body, dict(ACCEPTS))


def answer_in(text: str) -> Body:
    """Return the last JSON-RPC message of a response, which is one object or a stream."""
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    found: Body = json.loads(lines[-1] if lines else text)
    return found


def said(result: types.CallToolResult) -> str:
    """Return the text of a result."""
    return "".join(block.text for block in result.content if isinstance(block, types.TextContent))
