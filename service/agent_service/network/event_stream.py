"""Server-sent events, read from bytes (WHATWG HTML, 9.2). Pure. Only `data` and `event` matter to our readers."""

from collections.abc import Iterator

LONGEST_EVENT_BYTES = 2**20
"""Usual limit of a line and of the data of an event. Those of a model have a few kilobytes."""


class EventTooLargeError(Exception):
    """A line, or the data of an event, is longer than any in a real answer."""


class EventStream:
    """Takes the bytes of a stream as they arrive, and yields the complete events."""

    def __init__(self, longest_event_bytes: int = LONGEST_EVENT_BYTES) -> None:
        """Set the limit of a line and of the data of an event."""
        self._longest = longest_event_bytes
        self._rest = b""
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._name = b""

    def feed(self, chunk: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield the name and the data of each event that `chunk` completes. The name is empty if the event has none.

        Comments, and events without data, are skipped. White space around the values is kept, except for the name.

        Raises:
            EventTooLargeError: a line or an event exceeds the limit.
        """
        for line in self._lines(chunk):
            if line.startswith(b"data:"):
                self._data.append(line[5:])
                self._data_bytes += len(line)
                if self._data_bytes > self._longest:
                    raise EventTooLargeError
            elif line.startswith(b"event:"):
                self._name = line[6:].strip()
            elif not line:
                name, data = self._name, self._data
                self._data, self._data_bytes, self._name = [], 0, b""
                if data:
                    yield name, b"\n".join(data)

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
        if len(self._rest) > self._longest:
            raise EventTooLargeError
        return lines
