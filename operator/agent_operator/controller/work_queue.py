"""A queue of keys: each is worked on by one worker at a time, and once for any number of reasons."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

# The first retry comes at once, as far as a person can tell; an agent that keeps failing is tried every five minutes.
FIRST_BACKOFF_SECONDS = 0.5
LAST_BACKOFF_SECONDS = 300.0

# What takes longer waits for an answer, of a webhook that hangs, say. Others must not wait for it as well.
SLOW_SECONDS = 1.0


class WorkQueue(Generic[K]):
    """Calls `work(key)` for every key that was added. It returns after how many seconds to look again, or None.

    A key that is added while it is being worked on is worked on again. When `work` raises, the key comes back after
    a backoff that doubles, with jitter, and `failed(key, error)` is told.
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
        """Have the key worked on soon."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._wanted:
            return
        self._wanted.add(key)
        if key not in self._active:
            self._ready.put_nowait(key)

    async def run(self, workers: int) -> None:
        """Work until cancelled, on as many keys at once as there are workers, without counting those that are slow."""
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
        place = _Place(free)
        slow = loop.call_later(SLOW_SECONDS, place.give_up)
        try:
            again = await self._attempt(key)
        finally:
            self._active.discard(key)
            slow.cancel()
            place.give_up()
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


class _Place:
    """A worker's place, which is given up once."""

    def __init__(self, free: asyncio.Semaphore) -> None:
        self._free = free
        self._held = True

    def give_up(self) -> None:
        if self._held:
            self._held = False
            self._free.release()


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures before: doubled each time, up to a limit, give or take a half."""
    seconds = FIRST_BACKOFF_SECONDS * 2.0 ** min(failures, 20)
    return min(seconds, LAST_BACKOFF_SECONDS) * random.uniform(0.5, 1.5)  # noqa: S311  spread, not secrecy
