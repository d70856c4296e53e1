"""Where the test bed keeps things: one cache folder for what is expensive to make, one state folder a cluster."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TOOLS = Path(__file__).resolve().parent / "tools"


def cache() -> Path:
    """The cache folder: `PORTSIDE_CACHE`, else `portside` in the user's cache folder (XDG Base Directory)."""
    if own := os.environ.get("PORTSIDE_CACHE"):
        return Path(own).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "portside"


def clusters() -> Path:
    """The folder that holds one state folder for each cluster that runs, or ran and was killed."""
    return cache() / "clusters"
