"""Mutual exclusion across processes: test runs on one machine share the cache."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from testbed import together
from testbed.console import say

POLL_SECONDS = 0.2


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path` while the body runs; if another process holds it, report `what` that one does.

    `what` is a verb phrase, such as "builds the images".
    The kernel releases the lock when its holder dies (flock(2)), so a killed run leaves nothing to clean up.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        if not _locked(handle):
            say(f"    waiting for another process that {what}")
            while not _locked(handle):
                together.check()
                time.sleep(POLL_SECONDS)
        yield


def _locked(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
