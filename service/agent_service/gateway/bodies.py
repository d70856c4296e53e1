"""Reads the bodies of calls, with bounds for one body and for all of them together."""

from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

# The Messages API's own limit of a request (Claude docs, "Errors").
LARGEST_BYTES = 32 * 2**20

# All bodies that have not been answered yet. Two of the largest: a pod has some hundred megabytes.
_MOST_BYTES = 2 * LARGEST_BYTES


class TooLargeError(Exception):
    """The body is larger than the Messages API accepts."""


class NoRoomError(Exception):
    """The bodies of the calls in flight take all the memory that they may."""


class CompressedError(Exception):
    """The body is compressed, so that it could not be read within bounds."""


class Bodies:
    """Counts the bytes of all bodies that are held."""

    def __init__(self) -> None:
        self._held = 0

    @contextmanager
    def holding(self) -> Iterator["Held"]:
        """Hold one body, and release it at the end of the context if that was not done before."""
        held = Held(self)
        try:
            yield held
        finally:
            held.release()

    def change(self, by: int) -> None:
        """Hold more bytes, or fewer; raise NoRoomError when they are too many."""
        self._held += by
        if by > 0 and self._held > _MOST_BYTES:
            raise NoRoomError


class Held:
    """One body."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._bytes = 0

    async def read(self, request: web.BaseRequest) -> bytes:
        """Return the body of a request.

        Raises:
            CompressedError: it has a Content-Encoding.
            TooLargeError: it exceeds LARGEST_BYTES.
            NoRoomError: with it, all bodies exceed their bound.
        """
        if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise CompressedError
        if (request.content_length or 0) > LARGEST_BYTES:
            raise TooLargeError
        parts: list[bytes] = []
        while part := await request.content.readany():
            self._bytes += len(part)
            self._bodies.change(len(part))
            if self._bytes > LARGEST_BYTES:
                raise TooLargeError
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def release(self) -> None:
        """Count the body as no longer held."""
        self._bodies.change(-self._bytes)
        self._bytes = 0
