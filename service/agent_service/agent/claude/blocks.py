"""The blocks of an answer, put together from its events so that they can be sent back unchanged. Pure."""

import json
from collections.abc import Callable
from typing import Any

from agent_service.agent.claude.events import Event
from agent_service.agent.step import Step

# An answer has a few blocks; each takes memory beyond its bytes.
_MOST_BLOCKS = 1024


class Blocks:
    """Fills the content of a step from the events of its answer."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._open: dict[int, _Block] = {}

    def note(self, event: Event) -> None:
        """Take the next event.

        Raises:
            ValueError: when an event cannot be read, or there are too many blocks.
        """
        kind = event["type"]
        if kind == "content_block_delta":
            block = self._open.get(event["index"])
            if block is not None:
                block.add(event["delta"])
        elif kind == "content_block_start":
            if len(self._step.content) >= _MOST_BLOCKS:
                raise ValueError("has too many blocks")
            block = _Block(dict(event["content_block"]))
            self._step.content.append(block.content)
            self._open[event["index"]] = block
        elif kind == "content_block_stop":
            block = self._open.pop(event["index"], None)
            if block is not None and not block.close():
                self._step.unreadable.add(str(block.content.get("id")))


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
            self.content[name] = str(self.content.get(name) or "") + "".join(parts)
        if not self._input:
            return isinstance(self.content.get("input", {}), dict)
        found = _loaded("".join(self._input))
        self.content["input"] = found if isinstance(found, dict) else {}
        return isinstance(found, dict)

    def _append(self, name: str, part: str) -> None:
        self._parts.setdefault(name, []).append(part)

    def _cite(self, citation: object) -> None:
        self.content["citations"] = [*(self.content.get("citations") or []), citation]


def _loaded(text: str) -> object:
    """Return a JSON value; None if it is none."""
    try:
        # An empty input has no deltas, or empty ones.
        return json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        return None
