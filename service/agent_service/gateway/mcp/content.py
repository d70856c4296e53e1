"""Tools and results in the form of MCP. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

import mcp_types as types

from agent_service.agent.tools import Tool, ToolResult

# MCP requires a URI of a resource, and the content of a result has none.
_DOCUMENT = "portside:document"


def listed(tools: Iterable[Tool]) -> list[types.Tool]:
    """Return tools as a server lists them."""
    return [
        types.Tool(name=tool.name, description=tool.description, input_schema=dict(tool.input_schema)) for tool in tools
    ]


def result_of(result: ToolResult) -> types.CallToolResult:
    """Return a result with the same content, in which an error is for the model."""
    return types.CallToolResult(content=[_content(block) for block in result.content], is_error=result.is_error)


def text(sentence: str) -> types.CallToolResult:
    """Return a result that is a sentence for the model."""
    return types.CallToolResult(content=[types.TextContent(type="text", text=sentence)])


def failed(sentence: str) -> types.CallToolResult:
    """Return a result with an error for the model."""
    return types.CallToolResult(content=[types.TextContent(type="text", text=sentence)], is_error=True)


def _content(block: Mapping[str, Any]) -> types.ContentBlock:
    source = block.get("source", {})
    match block.get("type"), source.get("type"):
        case "image", "base64":
            return types.ImageContent(type="image", data=source["data"], mime_type=source["media_type"])
        case "document", "base64":
            blob = types.BlobResourceContents(uri=_DOCUMENT, mime_type=source["media_type"], blob=source["data"])
            return types.EmbeddedResource(type="resource", resource=blob)
        case "text", _:
            return types.TextContent(type="text", text=block["text"])
        case other:
            raise ValueError(f"MCP has no content for {other}.")
