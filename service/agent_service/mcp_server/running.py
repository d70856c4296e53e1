"""The manager of the SDK that answers requests over HTTP, as a context."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager


@asynccontextmanager
async def running(
    manager: StreamableHTTPSessionManager, beside: Callable[[], Awaitable[None]] | None = None
) -> AsyncIterator[None]:
    """Answer requests while the context lasts, and run `beside`, which must not end by itself."""
    started = asyncio.Event()
    # A task of its own, because a task group must be left by the task that entered it.
    task = asyncio.create_task(_run(manager, started, beside))
    waiting = asyncio.create_task(started.wait())
    try:
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        yield
    finally:
        waiting.cancel()
        task.cancel()
        await asyncio.wait([task])


async def _run(
    manager: StreamableHTTPSessionManager, started: asyncio.Event, beside: Callable[[], Awaitable[None]] | None
) -> None:
    async with manager.run():
        started.set()
        await (asyncio.Event().wait() if beside is None else beside())
