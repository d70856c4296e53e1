"""Tool calls as clients see them: in streams, and in the answers of chats and tasks. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from agent_service.agent.messages import sendable
from agent_service.agent.tools import ToolResult, ToolUse
from agent_service.chat.approval_record import WaitingCall

# A result may have megabytes, which the model needs and a client rarely does.
MOST_CHARACTERS = 16_384
_CUT = " […]"


def shown_text(content: Iterable[Mapping[str, Any]]) -> str:
    """Return the text of a result for a client: cut if it is long, and with the type of each block without text."""
    texts = (str(block["text"]) if "text" in block else f"[{block.get('type')}]" for block in content)
    text = sendable("\n".join(texts))
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + _CUT


def shown_call(call: WaitingCall) -> dict[str, object]:
    """Return a call that waits for an approval, for a client."""
    expires = datetime.fromtimestamp(call.expires, UTC).isoformat()
    return {"id": call.id, "tool": call.tool, "server": call.server, "input": call.input, "expires_at": expires}


class Steps:
    """Collects the tool calls of a turn, in the order in which they began."""

    def __init__(self, earlier: Iterable[Mapping[str, Any]] = ()) -> None:
        """Begin with the calls of the same turn that another process collected."""
        self._calls: dict[str, dict[str, Any]] = {each["id"]: dict(each) for each in earlier}

    def note(self, piece: ToolUse | ToolResult) -> None:
        """Take a call, or the result of an earlier one."""
        if isinstance(piece, ToolUse):
            self._calls[piece.id] = {"id": piece.id, "name": piece.name, "input": dict(piece.input)}
        elif piece.id in self._calls:
            self._calls[piece.id] |= {"is_error": piece.is_error, "content": shown_text(piece.content)}

    def all(self) -> Sequence[Mapping[str, Any]] | None:
        """Return the calls; None if there were none."""
        return list(self._calls.values()) or None
