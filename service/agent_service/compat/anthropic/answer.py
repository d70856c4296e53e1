"""An answer of the agent as a message of the Messages API: its blocks, its stop reason and its usage. Pure."""

from collections.abc import Mapping
from typing import Any

from agent_service.agent.claude.written import message
from agent_service.agent.messages import Usage, sendable
from agent_service.agent.tools import Piece, ToolResult, ToolUse
from agent_service.chat.dialogue import Reply
from agent_service.chat.steps import shown_text
from agent_service.compat.pausing import notice

# Those of the API (API reference, "Messages") that a turn may end with.
_STOP_REASONS = frozenset({"end_turn", "max_tokens", "stop_sequence", "refusal", "model_context_window_exceeded"})
# Of ours, only the used-up budget cuts an answer short. At the other bounds, the model has written its answer.
_CUT = {"budget": "max_tokens"}


class Servers:
    """The names of the servers that the agent's tools come from."""

    def __init__(self, servers: Mapping[str, str], agent: str) -> None:
        """Take the servers by the names of the tools, and the name of the agent, for tools that are not among them."""
        self._servers = servers
        self._agent = agent

    def of(self, tool: str) -> str:
        """Return the server of a tool."""
        return self._servers.get(tool, self._agent)


def block(piece: ToolUse | ToolResult, servers: Servers) -> dict[str, Any]:
    """Return the block of a call that the agent has made, or of its result."""
    if isinstance(piece, ToolUse):
        call = {"id": piece.id, "name": piece.name, "server_name": servers.of(piece.name), "input": dict(piece.input)}
        return {"type": "mcp_tool_use", **call}
    content = [{"type": "text", "text": shown_text(piece.content)}]
    return {"type": "mcp_tool_result", "tool_use_id": piece.id, "is_error": piece.is_error, "content": content}


def client_call(use: ToolUse) -> dict[str, Any]:
    """Return the block of a call that the client makes."""
    return {"type": "tool_use", "id": use.id, "name": use.name, "input": dict(use.input)}


class Content:
    """Collects the blocks of an answer."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._blocks: list[dict[str, Any]] = []

    async def add(self, piece: Piece) -> None:
        """Take a piece of the answer."""
        if not isinstance(piece, str):
            self._blocks.append(block(piece, self._servers))
        elif self._blocks and self._blocks[-1]["type"] == "text":
            self._blocks[-1]["parts"].append(piece)
        else:
            self._blocks.append({"type": "text", "parts": [piece]})

    def whole(self, reply: Reply, model: str) -> dict[str, Any]:
        """Return the message."""
        found = [_joined(each) for each in self._blocks]
        if reply.waiting:
            found.append({"type": "text", "text": notice(reply.waiting)})
        found += map(client_call, reply.calls)
        return message(model, found, usage_of(reply.usage), stop_reason=stop_reason(reply))


def _joined(each: dict[str, Any]) -> dict[str, Any]:
    return {"type": "text", "text": sendable("".join(each["parts"]))} if "parts" in each else each


def stop_reason(reply: Reply) -> str:
    """Return the stop reason of an answer."""
    if reply.waiting:
        return "pause_turn"
    if reply.calls:
        return "tool_use"
    reason = _CUT.get(reply.usage.stop_reason or "", reply.usage.stop_reason)
    return reason if reason in _STOP_REASONS else "end_turn"


def usage_of(usage: Usage) -> dict[str, Any]:
    """Return the tokens of all calls of the model in a turn."""
    return {
        "input_tokens": usage.uncached_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "output_tokens": usage.output_tokens,
    }
