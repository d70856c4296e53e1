"""What OpenAI's API has no field for, in the field `portside`, as our own API has it. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from agent_service.agent.tools import ToolResult, ToolUse
from agent_service.chat.approval_record import WaitingCall
from agent_service.chat.dialogue import Reply
from agent_service.chat.steps import shown_text

FIELD = "portside"


def of_piece(piece: ToolUse | ToolResult) -> dict[str, Any]:
    """Return the event of a tool call or its result, as in `POST /chat/stream`."""
    if isinstance(piece, ToolUse):
        return {"type": "tool_use", "id": piece.id, "name": piece.name, "input": dict(piece.input)}
    content = shown_text(piece.content)
    return {"type": "tool_result", "id": piece.id, "is_error": piece.is_error, "content": content}


def of_reply(reply: Reply, *, streamed: bool = False) -> Mapping[str, Any]:
    """Return the field of an answer, with what `POST /chat` has; empty if it has nothing.

    A `streamed` answer has had its tool calls before.
    """
    found: dict[str, Any] = {}
    if reply.steps and not streamed:
        found["steps"] = [dict(step) for step in reply.steps]
    if reply.waiting:
        found["status"] = "input_required"
        found["conversation_id"] = reply.conversation_id
        found["approvals"] = [_waiting(call) for call in reply.waiting]
    elif reply.usage.cut is not None and not reply.calls:
        found["stop_reason"] = reply.usage.cut
    if reply.warning is not None:
        found["warning"] = reply.warning
    return {FIELD: found} if found else {}


def _waiting(call: WaitingCall) -> dict[str, Any]:
    expires = datetime.fromtimestamp(call.expires, UTC).isoformat()
    return {"id": call.id, "tool": call.tool, "server": call.server, "input": dict(call.input), "expires_at": expires}
