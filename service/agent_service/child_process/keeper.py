"""A child process that is restarted whenever it exits, and that ends with this process, even if this one is killed."""

import os
import subprocess
import sys
import threading
import time
from typing import Any, Protocol

import structlog

from agent_service.child_process import pdeathsig

_log = structlog.get_logger(__name__)

# The first and the longest pause before a restart. After a run longer than the latter, the back-off starts again.
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0


def bound_to_this_process(command: list[str]) -> list[str]:
    """Return the command that runs `command` such that it gets SIGTERM when the thread that starts it ends."""
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", pdeathsig.__file__, str(os.getpid()), *command]


class Program(Protocol):
    """A program to keep running."""

    name: str
    """Name for the log, such as `Valkey`."""
    stop_seconds: float
    """Seconds that it has to end after SIGTERM, before it is killed."""

    def start(self) -> "subprocess.Popen[Any] | None":
        """Start the process; return None if that is not possible."""
        ...

    def follow(self, child: "subprocess.Popen[Any]") -> int:
        """Wait for the end of the process, and return its exit code."""
        ...

    def is_restarted(self) -> bool:
        """Return whether to restart it after its end."""
        ...


class Keeper(threading.Thread):
    """The thread that starts the process and waits for its end.

    It is a thread so that a busy event loop does not block it. It does both, because the process ends with the thread
    that started it (see `pdeathsig.py`).
    """

    def __init__(self, program: Program) -> None:
        super().__init__(name=program.name, daemon=True)
        self._program = program
        self._process: subprocess.Popen[Any] | None = None
        self._ending = threading.Event()
        self._starting = threading.Lock()

    @property
    def ending(self) -> bool:
        """Whether `end` was called."""
        return self._ending.is_set()

    def end(self) -> None:
        """Stop the process, and wait until it has ended."""
        with self._starting:
            self._ending.set()
        child = self._process
        if child is not None and child.poll() is None:
            child.terminate()
            self.join(self._program.stop_seconds)
            if self.is_alive():
                _log.error(f"{self._program.name} did not exit, killed it")
                child.kill()
        self.join(self._program.stop_seconds)

    def run(self) -> None:
        """Run and restart the process until `end` is called, or the program is not to be restarted."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            started = time.monotonic()
            code = self._run_once()
            if self.ending or not self._program.is_restarted():
                return
            if time.monotonic() - started > _LONGEST_PAUSE_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            _log.error(f"{self._program.name} exited, restarted it", code=code, after_seconds=pause)
            self._ending.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _run_once(self) -> int | None:
        with self._starting:
            if self.ending:
                return None
            self._process = self._program.start()
        return None if self._process is None else self._program.follow(self._process)
