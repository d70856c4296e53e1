"""Processor time and memory of a program and its children, as counted by the kernel."""

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def cpu_seconds(pid: int) -> float:
    """Return the processor time, in seconds, of a process and its descendants, including those that ended."""
    return sum(sum(_cpu_ticks(one)) for one in _tree(pid)) / _TICKS


def resident_mb(pid: int) -> float:
    """Return the resident memory, in megabytes (10**6), of a process and its descendants."""
    pages = 0
    for one in _tree(pid):
        pages += int((_PROC / str(one) / "statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def proportional_mb(pid: int) -> float:
    """Return the proportional set size, in megabytes (10**6), of a process and its descendants."""
    kibibytes = 0
    for one in _tree(pid):
        rollup = (_PROC / str(one) / "smaps_rollup").read_text(encoding="ascii")
        kibibytes += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return kibibytes * 1024 / 1e6


def _tree(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        for task in (_PROC / str(one) / "task").iterdir():
            found += [int(child) for child in (task / "children").read_text(encoding="ascii").split()]
    return found


def _cpu_ticks(pid: int) -> list[int]:
    # proc(5): utime, stime, cutime and cstime are the fields 14 to 17; the name, field 2, may hold spaces.
    stat = (_PROC / str(pid) / "stat").read_text(encoding="ascii")
    return [int(field) for field in stat.rpartition(")")[2].split()[11:15]]
