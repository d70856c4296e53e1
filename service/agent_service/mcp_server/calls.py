"""The calls of tools that are in progress, and their cancellation."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from mcp.server.streamable_http import REQUEST_CANCELLED
from mcp.shared.exceptions import MCPError

# Clients give up after a minute or less without a sign of life (SDK for TypeScript: DEFAULT_REQUEST_TIMEOUT_MSEC).
_BEAT_SECONDS = 2.0

Result = TypeVar("Result")
Beat = Callable[[], Awaitable[None]]


class CallCancelledError(MCPError):
    """The client cancelled the call."""

    def __init__(self) -> None:
        super().__init__(REQUEST_CANCELLED, "Request cancelled")


class Calls(Generic[Result]):
    """The calls of this process that can be cancelled, by their session and the id of their request."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, object], asyncio.Task[Result]] = {}

    def cancel(self, session: str, request: object) -> bool:
        """Cancel a call, and return whether there is one."""
        call = self._calls.get((session, request))
        return call is not None and call.cancel()

    async def result(self, session: str, request: object, call: asyncio.Task[Result], beat: Beat) -> Result:
        """Return the result of a call, which ends with this request.

        Args:
            session: id of the session; empty if there is none.
            request: id of the request.
            call: the call.
            beat: called every two seconds while the call lasts.

        Raises:
            CallCancelledError: when the client cancelled it.
        """
        key = (session, request)
        self._calls[key] = call
        try:
            while not (await asyncio.wait([call], timeout=_BEAT_SECONDS))[0]:
                await beat()
            return call.result()
        except asyncio.CancelledError:
            if not call.done() or not call.cancelled():
                raise
            raise CallCancelledError from None
        finally:
            call.cancel()
            if self._calls.get(key) is call:
                del self._calls[key]
