"""The events of a task: as they are stored, as clients see them, and what earlier attempts have sent of them. Pure.

Stored are the events that clients see, with two differences. A `whole` event has the content of all events before it,
which are removed; clients see it as `restarted`. The last event of a task is not stored, as its record has the result
or the error.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent_service.agent.tools import ToolResult, ToolUse
from agent_service.chat.approval_record import WaitingCall
from agent_service.chat.steps import shown_call, shown_text

Data = Mapping[str, Any]

_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)

_TEXT_START = b'{"type":"text",'

# Escaped to ASCII, as json.dumps does. A complete encoder for each text would take several times as long.
_quoted = json.encoder.encode_basestring_ascii


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as a client sees it. `id` is its position: `<task id>.<number>`. `text` is its data as ASCII JSON."""

    id: str
    text: bytes

    @property
    def data(self) -> Data:
        """What happened, with a `type`."""
        found: Data = json.loads(self.text)
        return found


@dataclass(slots=True)
class Sent:
    """What clients have received of a turn: its text, and the ids of its tool calls and of their results."""

    text: str = ""
    calls: set[str] = field(default_factory=set)
    results: set[str] = field(default_factory=set)
    waits: bool = False

    @classmethod
    def of(cls, events: Iterable[bytes]) -> "Sent":
        """Return what these stored events have sent; those that are damaged are skipped."""
        sent = cls()
        texts: list[str] = []
        for each in events:
            try:
                texts = sent._take(json.loads(each), texts)
            except _UNREADABLE:
                continue
        sent.text = "".join(texts)
        return sent

    def _take(self, event: Data, texts: list[str]) -> list[str]:
        kind = event["type"]
        if kind in {"restarted", "whole"}:
            texts = []
        if "content" in event and kind != "tool_result":
            texts.append(str(event["content"]))
        if kind == "tool_use":
            self.calls.add(event["id"])
        elif kind == "tool_result":
            self.results.add(event["id"])
        elif kind == "whole":
            self.calls, self.results = set(event["calls"]), set(event["results"])
        self.waits = kind == "input_required"
        return texts


def text_event(text: str) -> str:
    """Return the stored form of a text, which has no surrogates."""
    return f'{{"type":"text","content":{_quoted(text)}}}'


def tool_event(piece: ToolUse | ToolResult) -> str:
    """Return the stored form of a tool call, or of its result."""
    if isinstance(piece, ToolUse):
        return _event("tool_use", id=piece.id, name=piece.name, input=piece.input)
    return _event("tool_result", id=piece.id, is_error=piece.is_error, content=shown_text(piece.content))


def step_events(step: Mapping[str, Any], sent: Sent) -> list[str]:
    """Return the events of a tool call of an earlier attempt (`chat/steps.py`) that clients have not received."""
    found = []
    if step["id"] not in sent.calls:
        found.append(_event("tool_use", id=step["id"], name=step["name"], input=step["input"]))
    if "content" in step and step["id"] not in sent.results:
        found.append(_event("tool_result", id=step["id"], is_error=step["is_error"], content=step["content"]))
    return found


def restarted_event(text: str) -> str:
    """Return the stored form of a text that replaces all text before it."""
    return _event("restarted", content=text)


def resumed_event(attempt: int) -> str:
    """Return the stored form of the start of an attempt that goes on with the work of another one."""
    return _event("resumed", attempt=attempt)


def whole_event(sent: Sent) -> str:
    """Return the stored form of all events of a turn so far."""
    return _event("whole", content=sent.text, calls=sorted(sent.calls), results=sorted(sent.results))


def waiting_event(waiting: Sequence[WaitingCall], conversation_id: str) -> str:
    """Return the stored form of the calls that wait for approvals."""
    conversation = {"conversation_id": conversation_id} if conversation_id else {}
    return _event("input_required", approvals=[shown_call(call) for call in waiting], **conversation)


def seen_event(event: bytes, *, is_last: bool) -> bytes | None:
    """Return a stored event as a client sees it; None if it does not see it, or the event is damaged.

    Args:
        event: the stored form.
        is_last: whether the task waits with this event as its last one.
    """
    if event.startswith(_TEXT_START):
        return event
    try:
        data = json.loads(event)
        kind = data["type"]
        if kind == "whole":
            return restarted_event(str(data["content"])).encode()
    except _UNREADABLE:
        return None
    # A turn that went on waits no longer.
    return None if kind == "input_required" and not is_last else event


def failed_event(error: Mapping[str, Any]) -> bytes:
    """Return the last event of a task that has failed."""
    return _event("error", message=error["message"], code=error["code"]).encode()


def done_event(result: Mapping[str, Any], conversation_id: str) -> bytes:
    """Return the last event of a task that is completed."""
    written = result.get("output_tokens", 0)
    conversation = {"conversation_id": conversation_id} if conversation_id else {}
    optional = {name: result[name] for name in ("stop_reason", "warning") if result.get(name) is not None}
    tokens = {"input_tokens": result["tokens_used"] - written, "output_tokens": written}
    return _event("done", **tokens, **conversation, **optional).encode()


def _event(kind: str, **data: object) -> str:
    return json.dumps({"type": kind, **data}, separators=(",", ":"))
