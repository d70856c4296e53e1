"""Answers of the runtime: each reader takes the bytes of one as they arrive, and returns its text, which is bounded."""

import codecs
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Protocol

import orjson

from agent_service.agent.errors import ModelError
from agent_service.agent.tools import Piece
from agent_service.network.event_stream import LONGEST_EVENT_BYTES, EventStream, EventTooLargeError
from agent_service.runtime import errors
from agent_service.runtime.connection import Connection

LARGEST_BYTES = 2**24
"""Limit of the text of an answer, in characters, and of an answer that is read as a whole, in bytes."""

# Events without text, such as those of tools, may be many times as large as the text.
_LARGEST_STREAM_BYTES = 2**28

EVENTS = "text/event-stream"


class Reader(Protocol):
    """Reads one answer. `ended` is whether the answer is complete, so that any further data can be ignored.

    `error` is set when the answer has failed; the text that `feed` has returned until then belongs to the answer.
    """

    ended: bool
    error: ModelError | None

    def feed(self, chunk: bytes) -> "str | Sequence[Piece]":
        """Return the text that `chunk` completes; the pieces in their order if there are tool calls among them."""
        ...

    def finish(self) -> "str | Sequence[Piece]":
        """Return the rest as `feed` does when the body has ended. Raise `error`, or if the answer is not complete."""
        ...


async def call(
    connection: Connection,
    path: str,
    *,
    headers: Mapping[str, str],
    content: bytes,
    reader_of: Callable[[str], Reader],
) -> AsyncGenerator[Piece]:
    """Post a question, and yield the pieces of its answer as they arrive, an empty text for a chunk without any.

    Args:
        connection: the connections to the runtime.
        path: path and query of the endpoint.
        headers: headers of the request.
        content: body of the request.
        reader_of: returns the reader of an answer of this media type.

    Raises:
        ModelError: the answer is missing, invalid or incomplete.
    """
    reply = await connection.send("POST", path, headers=headers, content=content)
    reader = reader_of(reply.media_type)
    try:
        async for chunk in reply:
            found = reader.feed(chunk)
            if isinstance(found, str):
                yield found
            else:
                for piece in found:
                    yield piece
            if reader.error is not None:
                break
            if reader.ended:
                reply.settle()
                return
        rest = reader.finish()
        for piece in [rest] if isinstance(rest, str) else rest:
            yield piece
    except BaseException:
        reply.close()
        raise


def loads(data: bytes) -> Any:
    """Return a JSON value. Raise ValueError if it is not JSON."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    # Python also writes NaN, and half of a surrogate pair where a token ends within a character; orjson rejects both.
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error


class Events:
    """Reads server-sent events. A subclass reads the data of each, with `_event`."""

    def __init__(self) -> None:
        self.ended = False
        self.error: ModelError | None = None
        self._stream = EventStream()
        self._characters_left = LARGEST_BYTES
        self._bytes_left = _LARGEST_STREAM_BYTES

    def feed(self, chunk: bytes) -> str | Sequence[Piece]:
        """Return the text of all events that `chunk` completes; the pieces if there are tool calls among them."""
        text: list[str] = []
        pieces: list[Piece] = []
        self._bytes_left -= len(chunk)
        try:
            if self._bytes_left < 0:
                raise errors.too_large(_LARGEST_STREAM_BYTES)
            for name, data in self._stream.feed(chunk):
                piece = self._event(name, data)
                if not isinstance(piece, str):
                    pieces += ["".join(text), piece]
                    text.clear()
                elif piece:
                    self._characters_left -= len(piece)
                    if self._characters_left < 0:
                        raise errors.too_large(LARGEST_BYTES)
                    text.append(piece)
                elif self.ended:
                    break
        except EventTooLargeError:
            self.error = errors.too_large(LONGEST_EVENT_BYTES)
        except ModelError as error:
            self.error = error
        return [*pieces, "".join(text)] if pieces else "".join(text)

    def finish(self) -> str | Sequence[Piece]:
        """Return what the last event has, which may lack the empty line after it."""
        text = "" if self.error else self.feed(b"\n\n")
        if self.error is not None:
            raise self.error
        self._check_end()
        return text

    def _event(self, name: bytes, data: bytes) -> Piece:
        """Return the text or tool call of an event, and set `ended` if it is the last one.

        Raises:
            ModelError: if it is an error.
        """
        raise NotImplementedError

    def _check_end(self) -> None:
        """Raise a ModelError if the body must not end here."""
        raise NotImplementedError


class Whole:
    """Reads an answer that is one JSON value. A subclass takes the text from it, with `_text`."""

    def __init__(self) -> None:
        self.ended = False
        self.error: ModelError | None = None
        self._chunks: list[bytes] = []
        self._left = LARGEST_BYTES

    def feed(self, chunk: bytes) -> str:
        """Keep the chunk."""
        self._left -= len(chunk)
        if self._left < 0:
            self._chunks = []
            self.error = errors.too_large(LARGEST_BYTES)
        else:
            self._chunks.append(chunk)
        return ""

    def finish(self) -> str:
        """Return the text of the answer."""
        if self.error is not None:
            raise self.error
        body = b"".join(self._chunks)
        if not body.strip():
            raise errors.unreadable("is empty")
        try:
            value = loads(body)
        except ValueError as error:
            raise errors.unreadable("is not JSON", upstream=str(error)) from error
        return self._text(value)

    def _text(self, value: Any) -> str:
        raise NotImplementedError


class Plain:
    """Reads an answer that is text in UTF-8."""

    def __init__(self) -> None:
        self.ended = False
        self.error: ModelError | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._left = LARGEST_BYTES

    def feed(self, chunk: bytes) -> str:
        """Return the characters that `chunk` completes."""
        self._left -= len(chunk)
        if self._left < 0:
            self.error = errors.too_large(LARGEST_BYTES)
            return ""
        return self._decoder.decode(chunk)

    def finish(self) -> str:
        """Return the end of the text. Raise a ModelError if there is none at all."""
        if self.error is not None:
            raise self.error
        if self._left == LARGEST_BYTES:
            raise errors.unreadable("is empty")
        return self._decoder.decode(b"", final=True)


def is_json(media_type: str) -> bool:
    """Return whether a media type is JSON; a missing one is taken as JSON."""
    return media_type in {"", "application/json"} or media_type.endswith("+json")


class Unknown:
    """Fails at once: the answer is of a media type that the protocol does not have."""

    ended = False

    def __init__(self, media_type: str) -> None:
        upstream = f"Content-Type: {media_type}"
        self.error: ModelError | None = errors.unreadable("is neither JSON, text nor events", upstream=upstream)

    def feed(self, chunk: bytes) -> str:
        """Return no text."""
        return ""

    def finish(self) -> str:
        """Raise the error: the body is empty."""
        raise self.error or errors.unreadable("is empty")
