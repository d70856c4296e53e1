"""Tool calls that a runtime reports, in the form of our own streams. Pure."""

import json
from collections.abc import Mapping
from typing import Any, TypeGuard

from agent_service.agent.messages import sendable
from agent_service.agent.tools import ToolResult, ToolUse

_LONGEST_NAME = 256


def tool_piece(kind: str, event: Mapping[str, Any]) -> ToolUse | ToolResult | None:
    """Return the tool call in an event of the type `tool_use`, or the result in a `tool_result`; None if invalid.

    The id of a result may also be in `tool_use_id`, as in the Messages API. Its content may be any JSON.
    """
    if kind == "tool_use":
        name, given = _name(event.get("name")), event.get("input", {})
        call_id = _name(event.get("id"))
        return ToolUse(call_id, name, given) if call_id and name and _is_object(given) else None
    call_id = _name(event.get("id", event.get("tool_use_id")))
    is_error = event.get("is_error", False)
    if not call_id or not isinstance(is_error, bool):
        return None
    return ToolResult(call_id, tuple(_blocks(event.get("content", ""))), is_error=is_error)


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Return whether a value is an object that JSON in UTF-8 can carry: without NaN and half a surrogate pair."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict)


def _name(value: object) -> str | None:
    return sendable(value) if isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME else None


def _blocks(content: object) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if isinstance(content, list) and all(isinstance(block, dict) and "type" in block for block in content):
        return content
    return [{"type": "text", "text": json.dumps(content, ensure_ascii=False)}]
