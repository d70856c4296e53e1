"""The blocks of an answer, put together from its events so that they can be sent back unchanged. Pure."""

import json
from collections.abc import Callable
from typing import Any

from agent_service.agent.claude.events import Event
from agent_service.agent.messages import sendable
from agent_service.agent.step import Step

# An answer has a few blocks; each takes memory beyond its bytes.
_MOST_BLOCKS = 1024

_TOOL_USE = "tool_use"


class Blocks:
    """Fills the content of a step from the events of its answer."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._open: dict[object, _Block] = {}

    def note(self, event: Event) -> None:
        """Take the next event.

        Raises:
            ValueError, LookupError, TypeError, AttributeError: when the event is not as the Messages API sends it.
        """
        kind = event["type"]
        if kind == "content_block_delta":
            block = self._open.get(event["index"])
            if block is not None:
                block.add(event["delta"])
        elif kind == "content_block_start":
            self._begin(event["index"], event["content_block"])
        elif kind == "content_block_stop":
            self._close(self._open.pop(event["index"], None))

    def finish(self) -> None:
        """Complete the blocks that a gateway has not ended."""
        while self._open:
            self._close(self._open.popitem()[1])

    def _begin(self, index: object, content: dict[str, Any]) -> None:
        if len(self._step.content) >= _MOST_BLOCKS:
            raise ValueError("has too many blocks")
        needed = ("type", "id", "name") if content["type"] == _TOOL_USE else ("type",)
        if not all(isinstance(content[name], str) for name in needed):
            raise ValueError("has a block without type, id or name")
        block = _Block(dict(content))
        self._step.content.append(block.content)
        self._open[index] = block

    def _close(self, block: "_Block | None") -> None:
        if block is not None and not block.close() and block.content["type"] == _TOOL_USE:
            self._step.unreadable.add(block.content["id"])


class _Block:
    """A block whose events arrive. Its texts are joined once, at its end."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content
        self._parts: dict[str, list[str]] = {}
        self._input: list[str] = []
        self._adds: dict[str, Callable[[dict[str, Any]], None]] = {
            "text_delta": lambda delta: self._append("text", delta["text"]),
            "thinking_delta": lambda delta: self._append("thinking", delta["thinking"]),
            "signature_delta": lambda delta: self._append("signature", delta["signature"]),
            "input_json_delta": lambda delta: self._input.append(delta["partial_json"]),
            "citations_delta": lambda delta: self._cite(delta["citation"]),
        }

    def add(self, delta: dict[str, Any]) -> None:
        """Take a delta. One of an unknown type is skipped."""
        add = self._adds.get(delta["type"])
        if add is not None:
            add(delta)

    def close(self) -> bool:
        """Complete the block; return whether its input, if it has one, is a JSON object."""
        for name, parts in self._parts.items():
            self.content[name] = sendable((self.content.get(name) or "") + "".join(parts))
        found = _loaded(sendable("".join(self._input))) if self._input else self.content.get("input", {})
        if self._input or "input" in self.content:
            self.content["input"] = found if isinstance(found, dict) else {}
        return isinstance(found, dict)

    def _append(self, name: str, part: str) -> None:
        self._parts.setdefault(name, []).append(part)

    def _cite(self, citation: object) -> None:
        self.content["citations"] = [*(self.content.get("citations") or []), citation]


def _loaded(text: str) -> object:
    """Return a JSON value; None if it is none, or cannot be sent back."""
    if not text.strip():
        return {}  # A call without arguments has no deltas, or empty ones.
    try:
        found = json.loads(text, parse_constant=_refuse)
        # Half a surrogate pair in an escape cannot be encoded.
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
