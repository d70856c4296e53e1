"""Reads the bodies of calls, with bounds for one body and for all of them together."""

from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from agent_service.gateway.forms import RefusedError

# The Messages API's own limit of a request (Claude docs, "Errors").
LARGEST_BYTES = 32 * 2**20

# All bodies that have not been answered yet. Two of the largest: a pod has some hundred megabytes.
_MOST_BYTES = 2 * LARGEST_BYTES


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
        """Hold more bytes, or fewer; raise RefusedError when they are too many."""
        self._held += by
        if by > 0 and self._held > _MOST_BYTES:
            message = "The calls in flight take all the memory that they may; try again in a moment."
            raise RefusedError(529, "overloaded_error", message, {"Retry-After": "1"})


class Held:
    """One body."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._bytes = 0

    async def read(self, request: web.BaseRequest, most: int = LARGEST_BYTES) -> bytes:
        """Return the body of a request, of at most `most` bytes.

        Raises:
            RefusedError: when it is compressed or too large, or all bodies exceed their bound with it.
        """
        if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            # It could not be read within bounds.
            message = "The gateway reads no compressed bodies; send the body without a Content-Encoding."
            raise RefusedError(415, "invalid_request_error", message)
        too_large = RefusedError(413, "request_too_large", f"The request body exceeds {most // 2**20} MiB.")
        if (request.content_length or 0) > most:
            raise too_large
        parts: list[bytes] = []
        while part := await request.content.readany():
            self._bytes += len(part)
            self._bodies.change(len(part))
            if self._bytes > most:
                raise too_large
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def release(self) -> None:
        """Count the body as no longer held."""
        self._bodies.change(-self._bytes)
        self._bytes = 0
