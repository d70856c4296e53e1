"""Server-sent events from the event stream of AWS, the binary format of Bedrock's streams. Pure."""

import base64
from typing import Any

import orjson
from botocore.eventstream import EventStreamBuffer, ParserError

from agent_service.agent.bedrock import errors

MEDIA_TYPE = "application/vnd.amazon.eventstream"


class FramesError(ValueError):
    """The bytes are not an event stream of AWS."""


class Frames:
    """Takes the bytes of a stream as they arrive. Its frames have at most 24 MiB (botocore) and a checksum."""

    def __init__(self) -> None:
        self._buffer = EventStreamBuffer()

    def feed(self, chunk: bytes) -> bytes:
        """Return the events that `chunk` completes.

        Raises:
            FramesError: when the bytes are not such a stream.
        """
        self._buffer.add_data(chunk)
        try:
            return b"".join([_event(frame.headers, frame.payload) for frame in self._buffer])
        except (ParserError, ValueError, LookupError, TypeError) as error:
            raise FramesError(f"is not an event stream of AWS ({type(error).__name__})") from error


def _event(headers: dict[str, Any], payload: bytes) -> bytes:
    kind = headers[":message-type"]
    if kind == "exception":
        return _written(errors.of_frame(headers[":exception-type"], payload).content)
    if kind == "error":
        return _written(errors.of_type(headers[":error-code"], str(headers.get(":error-message", ""))).content)
    if headers.get(":event-type") != "chunk":
        return b""
    return _written(base64.b64decode(orjson.loads(payload)["bytes"]))


def _written(data: bytes) -> bytes:
    # Parsed, as a line break would end the event's line, and as SDKs expect the type in a line of its own.
    event = orjson.loads(data)
    return b"event: %s\ndata: %s\n\n" % (str(event["type"]).encode(), orjson.dumps(event))
