"""Threads for functions that block. They do not delay the end of the process, and their number is bounded."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

MOST_THREADS = 32
"""Calls of plain functions that run at the same time; others wait for one of them."""


class Threads:
    """Runs functions, each in a thread of its own."""

    def __init__(self, most: int = MOST_THREADS) -> None:
        self._free = asyncio.Semaphore(most)

    async def run(self, function: Callable[[], Any]) -> Any:
        """Return what a function returns, or raise what it raises.

        A cancelled call returns at once. Its thread goes on, because Python cannot stop it, and counts until it ends.
        """
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()

        def work() -> None:
            result, failure = None, None
            try:
                result = function()
            except BaseException as error:
                failure = error
            # The loop is closed after a second signal.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(end, result, failure)

        def end(result: Any, failure: BaseException | None) -> None:
            self._free.release()
            if not outcome.done():
                outcome.set_result((result, failure))

        context = contextvars.copy_context()
        # A daemon: a function that never returns must not keep the process.
        threading.Thread(target=context.run, args=(work,), name="tool", daemon=True).start()
        result, failure = await outcome
        if failure is not None:
            raise failure
        return result
