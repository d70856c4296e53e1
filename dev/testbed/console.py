"""Progress for users: each step and its duration, and one line with what is still running."""

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

TERMINAL_SECONDS = 0.5
# In a file or CI's log, each report is a line of its own.
LOG_SECONDS = 30


@dataclass
class Activity:
    """A running step; `done` of `total` pieces of it are finished, when these are known."""

    what: str
    started: float = field(default_factory=time.monotonic)
    done: int = 0
    total: int = 0

    @property
    def seconds(self) -> float:
        """The time for which the step has been running, in seconds."""
        return time.monotonic() - self.started

    def __str__(self) -> str:
        count = f" {self.done}/{self.total}" if self.total else ""
        return f"{self.what}{count}"


class _Console:
    """Standard error: whole lines, and on a terminal one line below them that is overwritten in place."""

    def __init__(self) -> None:
        self.activities: list[Activity] = []
        self.times: list[tuple[str, float]] = []
        self.live = False
        self._started = 0.0
        self._lock = threading.RLock()

    def line(self, text: str) -> None:
        with self._lock:
            _write(f"{self._erase()}{text}\n{self._progress()}")

    def add(self, activity: Activity) -> None:
        with self._lock:
            self.activities.append(activity)

    def remove(self, activity: Activity, *, failed: bool) -> None:
        with self._lock:
            self.activities.remove(activity)
            self.times.append((activity.what + (" (failed)" if failed else ""), activity.seconds))

    def start(self) -> None:
        self._started = time.monotonic()
        self.live = True

    def refresh(self) -> None:
        """Show what is running; on a terminal, in place."""
        if not _terminal():
            self.line(f"    {progress_line(self.activities, time.monotonic() - self._started)}")
            return
        with self._lock:
            _write(f"{self._erase()}{self._progress()}")

    def stop(self) -> None:
        with self._lock:
            _write(self._erase())
            self.live = False

    def _erase(self) -> str:
        return "\r\x1b[2K" if self.live and _terminal() else ""

    def _progress(self) -> str:
        if not (self.live and _terminal() and self.activities):
            return ""
        width = shutil.get_terminal_size().columns - 1
        return progress_line(self.activities, time.monotonic() - self._started)[:width]


_console = _Console()


def progress_line(activities: list[Activity], seconds: float) -> str:
    """Return one line of what is still running, such as `1:05  Compiling kubernetes 431/1480 | Building images`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}  {' | '.join(str(each) for each in activities) or 'starting'}"


def table_of_times(times: list[tuple[str, float]], total: float) -> str:
    """Return a table of the steps and their seconds; steps that ran in parallel add up to more than `total`."""
    rows = [*((what, seconds) for what, seconds in times if seconds >= 0.1), ("total", total)]
    width = max(len(what) for what, _ in rows)
    return "\n".join(f"    {what:<{width}}  {seconds:7.1f} s" for what, seconds in rows)


def say(text: str) -> None:
    """Print one line to standard error, immediately (standard output is for results, such as a KUBECONFIG)."""
    _console.line(text)


@contextmanager
def step(what: str) -> Iterator[Activity]:
    """Announce `what`, run the body, and report how many seconds it took, or that it failed.

    The body may record its progress in the activity that is yielded.
    """
    activity = Activity(what)
    say(f"==> {what}")
    _console.add(activity)
    failed = True
    try:
        yield activity
        failed = False
    finally:
        _console.remove(activity, failed=failed)
        outcome = "failed after" if failed else "done in"
        say(f"    {outcome} {activity.seconds:.1f} s" + (f": {what}" if failed or _console.live else ""))


@contextmanager
def progress() -> Iterator[None]:
    """Show at intervals, while the body runs, which steps are running and how far each is. May be nested."""
    if _console.live:
        yield
        return
    ended = threading.Event()

    def show() -> None:
        while not ended.wait(TERMINAL_SECONDS if _terminal() else LOG_SECONDS):
            _console.refresh()

    _console.start()
    shower = threading.Thread(target=show, daemon=True)
    shower.start()
    try:
        yield
    finally:
        ended.set()
        shower.join()
        _console.stop()


def times() -> list[tuple[str, float]]:
    """Return the steps that this process has finished, with their seconds, in the order in which they ended."""
    return list(_console.times)


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
