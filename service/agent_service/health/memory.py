"""The memory usage of the process, and its memory limit."""

import resource
import sys
from dataclasses import dataclass
from pathlib import Path

_STATM = Path("/proc/self/statm")
# Control groups version 2, then 1, as a container sees its own.
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))

# Version 1 writes "no limit" as a number near 2**63.
_NO_LIMIT = 1 << 60


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes in use, and the limit in bytes; None if the container has no limit."""

    used: int
    limit: int | None

    @property
    def share(self) -> float:
        """The share of the limit that is in use; 0 if there is no limit."""
        return self.used / self.limit if self.limit else 0.0


def measure() -> Memory:
    """Return the usage and the limit from the kernel. Without /proc, the usage is the peak usage."""
    return Memory(_used(), _limit())


def _used() -> int:
    try:
        # proc(5): the second field is the resident set, in pages.
        return int(_STATM.read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _limit() -> int | None:
    for file in _LIMITS:
        try:
            limit = int(file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
        return limit if limit < _NO_LIMIT else None
    return None
