"""Events of the Messages API, from the server-sent events of an answer."""

import json
from collections.abc import Iterator
from typing import Any

import orjson

from agent_service.network.event_stream import LONGEST_EVENT_BYTES, EventStream

Event = dict[str, Any]

DONE = "[DONE]"
"""Type of the event for `data: [DONE]`, with which gateways end a stream."""


class Decoder:
    """Takes the bytes of a stream as they arrive, and yields the complete events.

    The SDK's own stream builds a model for each event, at about 70 µs each, of which a turn needs two fields.
    """

    def __init__(self, longest_event_bytes: int = LONGEST_EVENT_BYTES) -> None:
        self._stream = EventStream(longest_event_bytes)

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that `chunk` completes. Data that is not a JSON object is skipped.

        Raises:
            ValueError: the data of an event starts like a JSON object but is not valid JSON.
            EventTooLargeError: a line or an event is too long.
        """
        for name, data in self._stream.feed(chunk):
            event = _event(data, name)
            if event is not None:
                yield event


def _event(data: bytes, name: bytes) -> Event | None:
    try:
        event = orjson.loads(data)
    except orjson.JSONDecodeError:
        data = data.strip()
        if not data.startswith(b"{"):
            return {"type": DONE} if data == DONE.encode() else None
        # JSON escapes can hold half a surrogate pair, where a token ends within a character; orjson rejects that.
        event = json.loads(data)
    if not isinstance(event, dict):
        return None
    if "type" not in event:
        # Some gateways put the type in the `event` line only.
        event["type"] = name.decode("ascii", "replace")
    return event
