"""Nobody waits any more: stop the work."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

T = TypeVar("T")

# nginx's number for a client that closed the connection; nobody receives it, the metrics and logs show it.
CLIENT_CLOSED_REQUEST = 499


class ClientGoneError(Exception):
    """The client closed the connection before its answer began."""


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Give what `work` gives; cancel it when the client leaves first.

    The request's body must have been read: what is received after it is the end of the connection (ASGI, HTTP).

    Raises:
        ClientGoneError: when the client left.
    """
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGoneError
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
