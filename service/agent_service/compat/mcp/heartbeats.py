"""Comment lines in streams that are silent, so that proxies do not close them (STREAM_HEARTBEAT_SECONDS)."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.datastructures import Headers
from starlette.types import Message, Send

_COMMENT: Message = {"type": "http.response.body", "body": b": waiting for the model\r\n\r\n", "more_body": True}


@asynccontextmanager
async def heartbeats(send: Send, seconds: float) -> AsyncIterator[Send]:
    """Yield a function that sends a response. If that is a stream of events, comments are sent after this silence.

    The SDK sends its own at an interval that cannot be set. Each of its messages is a whole event, so a comment fits
    between any two.
    """
    writing = asyncio.Lock()
    written_at = time.monotonic()
    beating: asyncio.Task[None] | None = None

    async def beat() -> None:
        nonlocal written_at
        while True:
            await asyncio.sleep(max(0.0, written_at + seconds - time.monotonic()))
            async with writing:
                if time.monotonic() - written_at >= seconds:
                    await send(_COMMENT)
                    written_at = time.monotonic()

    async def send_between(message: Message) -> None:
        nonlocal written_at, beating
        async with writing:
            if beating is not None and message["type"] == "http.response.body" and not message.get("more_body", False):
                beating.cancel()
            await send(message)
            written_at = time.monotonic()
        if message["type"] == "http.response.start" and _is_stream(message):
            beating = asyncio.create_task(beat())

    try:
        yield send_between
    finally:
        if beating is not None:
            beating.cancel()


def _is_stream(start: Message) -> bool:
    return Headers(raw=start.get("headers", [])).get("content-type", "").startswith("text/event-stream")
