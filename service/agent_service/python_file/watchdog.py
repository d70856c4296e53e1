"""Warn about code that blocks the event loop, because all other turns or calls wait for it."""

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from agent_service.python_file.failures import place_in

_log = structlog.get_logger(__name__)

_BLOCKED_SECONDS = 1.0
_STEP_SECONDS = 0.25
# Later than this, the process itself did not run: it was stopped, or the machine is busy.
_LATE_SECONDS = 0.5
_MOST_PLACES = 100


@contextmanager
def watching(file: Path, warning: str) -> Iterator[None]:
    """Watch the running event loop while the context lasts. Log `warning` once for each place in the user's files."""
    watchdog = _Watchdog(file, warning, threading.get_ident())
    watchdog.beat(asyncio.get_running_loop())
    watchdog.start()
    try:
        yield
    finally:
        watchdog.ended.set()


class _Watchdog(threading.Thread):
    def __init__(self, file: Path, warning: str, loop_thread: int) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._file = file
        self._warning = warning
        self._loop_thread = loop_thread
        self._beaten = time.monotonic()
        self._places: set[tuple[str, int]] = set()
        self.ended = threading.Event()

    def beat(self, loop: asyncio.AbstractEventLoop) -> None:
        """Note that the event loop runs, now and at every step from now on."""
        self._beaten = time.monotonic()
        loop.call_later(_STEP_SECONDS, self.beat, loop)

    def run(self) -> None:
        """Sample the stack of the event loop's thread while it is blocked."""
        before = time.monotonic()
        while not self.ended.wait(_STEP_SECONDS):
            now = time.monotonic()
            if now - before < _STEP_SECONDS + _LATE_SECONDS and now - self._beaten > _BLOCKED_SECONDS + _STEP_SECONDS:
                self._sample()
            before = now

    def _sample(self) -> None:
        place = place_in(sys._current_frames().get(self._loop_thread), self._file)  # noqa: SLF001  the documented way
        if place is None or place in self._places or len(self._places) >= _MOST_PLACES:
            return
        self._places.add(place)
        _log.warning(
            self._warning,
            file=place[0],
            line=place[1],
            blocked_seconds_at_least=_BLOCKED_SECONDS,
        )
