"""Cancellation of work whose client has disconnected."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from starlette.types import Receive

# nginx's status for a client that closed the connection. No client receives it; metrics and logs show it.
CLIENT_CLOSED_REQUEST = 499

# Called while nothing is received. Returns the seconds until the next call.
Beat = Callable[[], Awaitable[float]]


class ClientGoneError(Exception):
    """The client closed the connection before its answer was complete."""


class WhileConnected:
    """A block of work that is cancelled, and ends with ClientGoneError, if the client disconnects first.

    The body of the request must have been read: the next event received is then the disconnect (ASGI, HTTP).
    """

    def __init__(self, receive: Receive, *, beat: Beat | None = None, beat_seconds: float | None = None) -> None:
        """Take the request's receive channel, and a function to call meanwhile, first after `beat_seconds`."""
        self._receive = receive
        self._beat = beat
        self._beat_seconds = beat_seconds
        self._left = False

    async def __aenter__(self) -> Self:
        """Start to watch for a disconnect."""
        working = asyncio.current_task()
        if working is None:
            raise RuntimeError("Only a task can be cancelled.")
        self._working = working
        self._watching = asyncio.create_task(self._watch())
        self._watching.add_done_callback(self._stop_work)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching.

        Raises:
            ClientGoneError: when the client disconnected.
        """
        self._watching.remove_done_callback(self._stop_work)
        self._watching.cancel()
        # The task's last frame refers to this object. A reference cycle per request is work for the garbage collector,
        # which took a fifth of the processor time at 256 requests in flight.
        del self._watching
        # As in asyncio.timeout: if the task was also cancelled from elsewhere, it must end.
        if self._left and self._working.uncancel() == 0 and kind is asyncio.CancelledError:
            raise ClientGoneError from None

    async def _watch(self) -> None:
        seconds = self._beat_seconds
        while True:
            try:
                async with asyncio.timeout(seconds):
                    while (await self._receive())["type"] != "http.disconnect":
                        pass
            except TimeoutError:
                seconds = await self._beat() if self._beat else None
            else:
                return

    def _stop_work(self, watching: asyncio.Task[None]) -> None:
        self._left = not watching.cancelled()
        self._working.cancel()
