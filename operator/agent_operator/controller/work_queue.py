"""A queue of keys: one worker at a time processes a key, once for any number of additions."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

# The first retry appears immediate to a user; an agent that keeps failing is retried every five minutes.
FIRST_BACKOFF_SECONDS = 0.5
LAST_BACKOFF_SECONDS = 300.0

# Work that takes longer is waiting for a response, such as that of a webhook that hangs. Other keys must not wait too.
SLOW_SECONDS = 1.0


class WorkQueue(Generic[K]):
    """Calls `work(key)` for every key that was added. `work` returns the seconds until the key is due again, or None.

    A key that is added while it is being processed is processed again. When `work` raises, the queue retries the key
    after a backoff that doubles, with jitter, and calls `failed(key, error, delay)`.
    """

    def __init__(
        self, work: Callable[[K], Awaitable[float | None]], failed: Callable[[K, Exception, float], None]
    ) -> None:
        self._work = work
        self._failed = failed
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._wanted: set[K] = set()
        self._active: set[K] = set()
        self._failures: dict[K, int] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}

    def add(self, key: K) -> None:
        """Enqueue the key for processing as soon as possible."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._wanted:
            return
        self._wanted.add(key)
        if key not in self._active:
            self._ready.put_nowait(key)

    async def run(self, workers: int) -> None:
        """Process keys until cancelled, up to `workers` at a time; slow ones do not count."""
        free = asyncio.Semaphore(workers)
        async with asyncio.TaskGroup() as group:
            while True:
                key = await self._ready.get()
                await free.acquire()
                group.create_task(self._work_on(key, free))

    async def _work_on(self, key: K, free: asyncio.Semaphore) -> None:
        self._wanted.discard(key)
        self._active.add(key)
        loop = asyncio.get_running_loop()
        slot = _Slot(free)
        slow = loop.call_later(SLOW_SECONDS, slot.release)
        try:
            again = await self._attempt(key)
        finally:
            self._active.discard(key)
            slow.cancel()
            slot.release()
        if key in self._wanted:
            self._ready.put_nowait(key)
        elif again is not None:
            self._timers[key] = loop.call_later(again, self.add, key)

    async def _attempt(self, key: K) -> float | None:
        try:
            again = await self._work(key)
        except Exception as error:
            failures = self._failures.get(key, 0)
            self._failures[key] = failures + 1
            delay = backoff(failures)
            self._failed(key, error, delay)
            return delay
        self._failures.pop(key, None)
        return again


class _Slot:
    """A worker's slot, which is released once."""

    def __init__(self, free: asyncio.Semaphore) -> None:
        self._free = free
        self._held = True

    def release(self) -> None:
        if self._held:
            self._held = False
            self._free.release()


def backoff(failures: int) -> float:
    """Return the seconds to wait after this many earlier failures: doubled each time up to a limit, ±50 % jitter."""
    seconds = FIRST_BACKOFF_SECONDS * 2.0 ** min(failures, 20)
    return min(seconds, LAST_BACKOFF_SECONDS) * random.uniform(0.5, 1.5)  # noqa: S311  spread, not secrecy
