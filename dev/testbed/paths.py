"""The folders of the test bed: one cache for what is expensive to build, and one state folder per cluster."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TOOLS = Path(__file__).resolve().parent / "tools"


def cache() -> Path:
    """Return the cache folder: `PORTSIDE_CACHE`, or `portside` in the user's cache folder (XDG Base Directory)."""
    if own := os.environ.get("PORTSIDE_CACHE"):
        return Path(own).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "portside"


def clusters() -> Path:
    """Return the folder that holds one state folder for each cluster that is running or was killed."""
    return cache() / "clusters"
