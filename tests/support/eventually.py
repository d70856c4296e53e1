"""Wait for a state until a deadline. Only a failing test waits until the deadline."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

T = TypeVar("T")

DEADLINE_SECONDS = 60.0
POLL_SECONDS = 0.05
# Other tests keep every core busy, so everything takes several times as long as on an idle machine: a deadline is
# extended by the number of processes that wait for each core, up to this factor.
MOST_PATIENCE = 3.0


def eventually(check: Callable[[], T | None], what: str, seconds: float = DEADLINE_SECONDS) -> T:
    """Call `check` until it returns something true, and return that. Fail with `what` and the last result otherwise."""
    started = time.monotonic()
    while not (found := check()):
        if time.monotonic() - started > seconds * _patience():
            pytest.fail(f"not within {time.monotonic() - started:.0f} s: {what}; last result: {found!r}")
        time.sleep(POLL_SECONDS)
    return found


async def eventually_async(check: Callable[[], Awaitable[T | None]], what: str, seconds: float = DEADLINE_SECONDS) -> T:
    """Like `eventually`, with a coroutine function, while the event loop runs."""
    started = time.monotonic()
    while not (found := await check()):
        if time.monotonic() - started > seconds * _patience():
            pytest.fail(f"not within {time.monotonic() - started:.0f} s: {what}; last result: {found!r}")
        await asyncio.sleep(POLL_SECONDS)
    return found


def _patience() -> float:
    load, _, _ = os.getloadavg()
    return min(MOST_PATIENCE, max(1.0, load / (os.cpu_count() or 1)))
