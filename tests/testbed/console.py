"""Progress for people: each step says what it does, and how long it took."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


def say(text: str) -> None:
    """Print one line to standard error, at once (standard output is for results, such as a KUBECONFIG)."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - this is the one place that talks to the terminal


@contextmanager
def step(what: str) -> Iterator[None]:
    """Announce `what`, run the body, and say how many seconds it took, or that it failed."""
    say(f"==> {what}")
    begun = time.monotonic()
    try:
        yield
    except BaseException:
        say(f"    failed after {time.monotonic() - begun:.1f} s: {what}")
        raise
    say(f"    done in {time.monotonic() - begun:.1f} s")
