"""Tool calls as clients see them: in streams, and in the answers of chats and tasks. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from agent_service.agent.tools import Piece, ToolResult, ToolUse

# A result may have megabytes, which the model needs and a client rarely does.
_SHOWN_CHARACTERS = 16_384
_CUT = " […]"


def shown_content(content: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the blocks of a result for a client: texts up to a bound, and of all others only the type."""
    left = _SHOWN_CHARACTERS
    found: list[dict[str, Any]] = []
    for block in content:
        if block.get("type") != "text":
            found.append({"type": str(block.get("type"))})
            continue
        text = str(block.get("text", ""))
        found.append({"type": "text", "text": text if len(text) <= left else text[:left] + _CUT})
        left = max(0, left - len(text))
    return found


class Steps:
    """Collects the tool calls of a turn, in the order in which they began."""

    def __init__(self) -> None:
        self._calls: dict[str, dict[str, Any]] = {}

    def note(self, piece: Piece) -> None:
        """Take a call, or the result of an earlier one. Other pieces are ignored."""
        if isinstance(piece, ToolUse):
            self._calls[piece.id] = {"id": piece.id, "name": piece.name, "input": dict(piece.input)}
        elif isinstance(piece, ToolResult) and piece.id in self._calls:
            self._calls[piece.id] |= {"is_error": piece.is_error, "content": shown_content(piece.content)}

    def all(self) -> list[dict[str, Any]] | None:
        """Return the calls; None if there were none."""
        return list(self._calls.values()) or None
