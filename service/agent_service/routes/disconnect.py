"""Nobody waits any more: stop the work."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from starlette.types import Receive

# nginx's number for a client that closed the connection; nobody receives it, the metrics and logs show it.
CLIENT_CLOSED_REQUEST = 499

# Called in silence; gives the seconds until it wants to be called again.
Beat = Callable[[], Awaitable[float]]


class ClientGoneError(Exception):
    """The client closed the connection before its answer was whole."""


class WhileConnected:
    """A block of work that is cancelled, and ends with ClientGoneError, when the client leaves first.

    The request's body must have been read: what is received after it is the end of the connection (ASGI, HTTP).
    """

    def __init__(self, receive: Receive, *, beat: Beat | None = None, beat_seconds: float | None = None) -> None:
        """Take the request's channel, and what is called in the meantime, first after so many seconds."""
        self._receive = receive
        self._beat = beat
        self._beat_seconds = beat_seconds
        self._left = False

    async def __aenter__(self) -> Self:
        """Begin to watch for the end of the connection."""
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
        """End the watch.

        Raises:
            ClientGoneError: when the client left.
        """
        self._watching.remove_done_callback(self._stop_work)
        self._watching.cancel()
        # The task's last frame refers to this object: a cycle for each request is work for the garbage collector, which
        # at 256 requests in flight took a fifth of the processor time.
        del self._watching
        # As in asyncio.timeout: somebody else may want the task to end too, and then it has to.
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
