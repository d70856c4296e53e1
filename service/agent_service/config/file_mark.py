"""Whether a file has changed since it was last looked at."""

from pathlib import Path


def file_mark(file: Path) -> tuple[int, ...]:
    """Return what changes when a file is replaced or written; empty if it is missing."""
    try:
        seen = file.stat()
    except OSError:
        return ()
    return (seen.st_dev, seen.st_ino, seen.st_mtime_ns, seen.st_size)
