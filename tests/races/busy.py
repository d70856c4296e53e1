"""Keeps every core busy for a while: a program of its own for each core, which ends by itself and with its parent."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

# Of one busy loop. They are also ended when the tests are done; this is the bound for a parent that was killed.
_LONGEST_SECONDS = 3600
# Between two looks at the clock and at the parent.
_TURNS = 1_000_000


@contextmanager
def busy_cores() -> Iterator[None]:
    """Keep as many processes busy as there are cores that we may use, and end them."""
    command = [sys.executable, __file__, str(os.getpid())]
    processes = [subprocess.Popen(command) for _ in os.sched_getaffinity(0)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def burn(parent: int, seconds: float = _LONGEST_SECONDS) -> None:
    """Compute until the time is over or this process has another parent."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and os.getppid() == parent:
        for _ in range(_TURNS):
            pass


if __name__ == "__main__":
    burn(int(sys.argv[1]))
