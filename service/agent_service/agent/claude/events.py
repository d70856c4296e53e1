"""Server-sent events of the Messages API, read from bytes (WHATWG HTML, 9.2; only `data` and `event` matter here)."""

import json
from collections.abc import Iterator
from typing import Any

import orjson

Event = dict[str, Any]

LONGEST_EVENT_BYTES = 2**20
"""Limit of a line and of the data of an event. The longest events of the Messages API have a few kilobytes."""

DONE = "[DONE]"
"""Type of the event for `data: [DONE]`, with which gateways end a stream."""


class EventTooLargeError(Exception):
    """A line, or the data of an event, is longer than any in a real answer."""


class Decoder:
    """Takes the bytes of a stream as they arrive, and yields the complete events.

    The SDK's own stream builds a model for each event, at about 70 µs each, of which a turn needs two fields.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._name = b""

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that `chunk` completes. Comments, and data that is not a JSON object, are skipped.

        Raises:
            ValueError: the data of an event starts like a JSON object but is not valid JSON.
            EventTooLargeError: a line or an event exceeds LONGEST_EVENT_BYTES.
        """
        for line in self._lines(chunk):
            if line.startswith(b"data:"):
                self._data.append(line[5:])
                self._data_bytes += len(line)
                if self._data_bytes > LONGEST_EVENT_BYTES:
                    raise EventTooLargeError
            elif line.startswith(b"event:"):
                self._name = line
            elif not line:
                event = _event(b"\n".join(self._data), self._name) if self._data else None
                self._data, self._data_bytes, self._name = [], 0, b""
                if event is not None:
                    yield event

    def _lines(self, chunk: bytes) -> list[bytes]:
        """Return the lines that `chunk` completes. They end with LF, CRLF or CR."""
        buffer = self._rest + chunk
        held = b""
        if b"\r" in buffer:
            # The LF of a CRLF may be in the next chunk.
            held = b"\r" if buffer.endswith(b"\r") else b""
            buffer = buffer.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = buffer.split(b"\n")
        self._rest = rest + held
        if len(self._rest) > LONGEST_EVENT_BYTES:
            raise EventTooLargeError
        return lines


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
        event["type"] = name.removeprefix(b"event:").strip().decode("ascii", "replace")
    return event
