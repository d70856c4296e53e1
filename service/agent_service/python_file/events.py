"""A response as server-sent events."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import orjson
from aiohttp import web

# Shorter than the silence after which proxies close a connection, usually 60 s.
_HEARTBEAT_SECONDS = 10.0
_HEARTBEAT = b": heartbeat\n\n"


class Events:
    """The events of one response. The headers are sent with the first one, so an early error can be a status."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
        )
        self._writing = asyncio.Lock()

    @property
    def started(self) -> bool:
        """Whether the headers have been sent."""
        return self._response.prepared

    async def send(self, event: object) -> None:
        """Send an object as JSON. Waits while the caller does not read."""
        await self._write(b"data: " + orjson.dumps(event) + b"\n\n")

    async def end(self) -> web.StreamResponse:
        """Complete the response, and return it."""
        await self._response.write_eof()
        return self._response

    @asynccontextmanager
    async def heartbeats(self) -> AsyncIterator[None]:
        """Send comments while the context lasts, so that a slow answer is not mistaken for a dead one."""
        beating = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            beating.cancel()

    async def _beat(self) -> None:
        # The handler itself learns that the connection is closed.
        with suppress(ConnectionError):
            while True:
                await asyncio.sleep(_HEARTBEAT_SECONDS)
                await self._write(_HEARTBEAT)

    async def _write(self, data: bytes) -> None:
        async with self._writing:
            if not self._response.prepared:
                await self._response.prepare(self._request)
            await self._response.write(data)
