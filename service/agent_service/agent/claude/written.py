"""Answers written in the form of the Messages API, whole and as events. Pure."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

EVENTS = "text/event-stream; charset=utf-8"

PING = b'event: ping\ndata: {"type":"ping"}\n\n'
"""The event that keeps a silent stream alive."""


def new_id(prefix: str) -> str:
    """Return a new id, such as `msg_…`."""
    return f"{prefix}_{uuid.uuid4().hex[:24]}"


def message(
    model: str, content: Sequence[Mapping[str, Any]], usage: Mapping[str, Any], *, stop_reason: str | None
) -> dict[str, Any]:
    """Return a message of the assistant; without a stop reason, its beginning."""
    return {
        "id": new_id("msg"),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": usage,
    }


def event(kind: str, **content: object) -> bytes:
    """Return an event of a stream."""
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), orjson.dumps({"type": kind, **content}))


def text_delta(index: int, text: str) -> bytes:
    """Return the event of a piece of a text."""
    return event("content_block_delta", index=index, delta={"type": "text_delta", "text": text})


def last_events(stop_reason: str, usage: Mapping[str, Any]) -> bytes:
    """Return the events that end a message."""
    delta = {"stop_reason": stop_reason, "stop_sequence": None}
    return event("message_delta", delta=delta, usage=usage) + event("message_stop")
