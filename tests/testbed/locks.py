"""One at a time across processes: two test runs on one machine share the cache."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed.console import say


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path` while the body runs; say so when another process holds it for `what`.

    The kernel drops the lock when its holder dies (flock(2)), so a killed run leaves nothing to clean up.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"    waiting for another process: {what}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
