"""Wait for a state until a deadline. Only a failing test waits until the deadline."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

T = TypeVar("T")

# Other tests keep every core busy, so everything takes several times as long as usual.
DEADLINE_SECONDS = 60.0
POLL_SECONDS = 0.05


def eventually(check: Callable[[], T | None], what: str, seconds: float = DEADLINE_SECONDS) -> T:
    """Call `check` until it returns something true, and return that. Fail with `what` and the last result otherwise."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:g} s: {what}; last result: {found!r}")
        time.sleep(POLL_SECONDS)
    return found


async def eventually_async(check: Callable[[], Awaitable[T | None]], what: str, seconds: float = DEADLINE_SECONDS) -> T:
    """Like `eventually`, with a coroutine function, while the event loop runs."""
    deadline = time.monotonic() + seconds
    while not (found := await check()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:g} s: {what}; last result: {found!r}")
        await asyncio.sleep(POLL_SECONDS)
    return found
