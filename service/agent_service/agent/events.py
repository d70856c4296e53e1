"""Server-sent events of the Messages API, read from bytes (WHATWG HTML, 9.2; only `data` matters here)."""

import json
from typing import Any

import orjson

Event = dict[str, Any]

_BLANK = (b"", b"\r")


class Decoder:
    """Takes the bytes of a stream as they come, and gives the events that are whole.

    The SDK's own stream makes a model of each event, at some 70 µs apiece, of which a turn needs two fields.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[Event]:
        """Give the events that `chunk` completes.

        Raises:
            ValueError: when the data of an event is not a JSON object.
        """
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        events = []
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:])
            elif self._data and line in _BLANK:
                events.append(_object(b"\n".join(self._data)))
                self._data = []
        return events


def _object(data: bytes) -> Event:
    try:
        event = orjson.loads(data)
    except orjson.JSONDecodeError:
        # Escapes of JSON can hold half a surrogate pair, where a token ends within a character; orjson refuses it.
        event = json.loads(data)
    if isinstance(event, dict):
        return event
    raise ValueError("The data of an event is not a JSON object.")
