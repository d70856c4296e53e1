"""What a tool returns, as content of MCP, and bounded."""

import base64
from collections.abc import Sequence
from typing import Any

from mcp_types import (
    AudioContent,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
)
from pydantic import BaseModel
from pydantic_core import to_json

from agent_service.agent.messages import sendable
from portside import Image

MOST_BYTES = 16 * 2**20
"""The largest result: the highest `maxResultBytes` that an agent's definition accepts."""

_BLOCKS = (TextContent, ImageContent, AudioContent, EmbeddedResource, ResourceLink)
_NOTHING = "The tool returned nothing."
_CUT = "\n[cut: the result has {} characters, of which {} are shown]"
_LEFT_OUT = "[left out: the result exceeds {} MiB]"


class ResultError(Exception):
    """The function returned a value that is no result. The message says what to return instead."""


def failed(message: str) -> CallToolResult:
    """Return the result of a call that failed, with its message for the model."""
    return CallToolResult(content=[TextContent(text=sendable(message))], is_error=True)


def result_of(value: Any) -> CallToolResult:
    """Return what a function returned as the result of its call.

    Raises:
        ResultError: if the value is neither text, nor content, nor can be written as JSON.
    """
    return CallToolResult(content=_bounded(_blocks(value)))


def _blocks(value: Any) -> list[ContentBlock]:
    if isinstance(value, str):
        return [TextContent(text=sendable(value))]
    if value is None:
        return [TextContent(text=_NOTHING)]
    if _is_content(value):
        return [_block(value)]
    if isinstance(value, list | tuple) and any(_is_content(each) for each in value):
        # Each by itself, so that texts may stand between images.
        return [_block(each) if _is_content(each) else TextContent(text=_text(each)) for each in value]
    return [TextContent(text=_text(value))]


def _is_content(value: Any) -> bool:
    return isinstance(value, (Image, *_BLOCKS))


def _block(value: Any) -> ContentBlock:
    if isinstance(value, Image):
        return ImageContent(data=base64.b64encode(value.data).decode(), mime_type=value.media_type)
    block: ContentBlock = value
    return block


def _text(value: Any) -> str:
    if isinstance(value, str):
        return sendable(value)
    if isinstance(value, bytes | bytearray | memoryview):
        raise ResultError("TypeError: a tool returned bytes; return text, or portside.Image(data)")
    try:
        return to_json(value, by_alias=True, inf_nan_mode="constants").decode()
    except Exception as error:
        # What it is about depends on the value; its class names the rest.
        reason = str(error).partition("\n")[0]
        raise ResultError(
            f"TypeError: a tool returned {type(value).__name__}, which is no JSON; "
            f"return text, values of JSON, dataclasses or pydantic models ({reason})"
        ) from None


def _bounded(blocks: Sequence[ContentBlock]) -> list[ContentBlock]:
    kept: list[ContentBlock] = []
    left = MOST_BYTES
    for block in blocks:
        size = _size(block)
        if size <= left:
            kept.append(block)
            left -= size
        elif isinstance(block, TextContent):
            text = block.text.encode()[:left].decode(errors="ignore")
            kept.append(TextContent(text=text + _CUT.format(len(block.text), len(text))))
            left = 0
        else:
            kept.append(TextContent(text=_LEFT_OUT.format(MOST_BYTES // 2**20)))
    return kept


def _size(block: BaseModel) -> int:
    if isinstance(block, TextContent):
        return len(block.text.encode())
    if isinstance(block, ImageContent | AudioContent):
        return len(block.data)
    return len(block.model_dump_json())
