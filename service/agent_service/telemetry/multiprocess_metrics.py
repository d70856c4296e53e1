"""Metrics where several processes answer: each keeps its own in files, and whoever is asked adds them all up.

See prometheus_client, "Multiprocess Mode". The figures of a single process (`process_…`, `python_…`) are not told then:
a sum of them would jump whenever a process is replaced. Nor are exemplars, which the library does not keep in files.
"""

import os
import struct
import time

from prometheus_client import CollectorRegistry, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from agent_service.telemetry import exposition
from agent_service.telemetry.exposition import Exposition

# Where it is set, prometheus_client keeps what is counted in files of this folder; it looks when it is imported.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"

# A file is empty for a moment when a process has just made it.
_TRIES = 3
_PAUSE_SECONDS = 0.01


def folder() -> str | None:
    """Give the folder that this process shares with others, if there is one."""
    return os.environ.get(FOLDER)


def join(number: int) -> None:
    """Name this process's files by its place among the processes, before anything is counted.

    By their ids, as prometheus_client would, there would be more and more files, as processes are replaced.
    """
    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: number)  # type: ignore[no-untyped-call]


def forget_gauges(number: int, where: str) -> None:
    """Take what the process in place `number` was just doing out of the sums, because it ended."""
    mark_process_dead(number, path=where)  # type: ignore[no-untyped-call]


def registry(where: str) -> CollectorRegistry:
    """Give a registry that holds the sums of all processes that share the folder."""
    sums = CollectorRegistry()
    MultiProcessCollector(sums, path=where)  # type: ignore[no-untyped-call]
    return sums


def expose(sums: CollectorRegistry, accept: str) -> Exposition:
    """Give the sums, in the format that an `Accept` header with this value asks for."""
    for _ in range(_TRIES - 1):
        try:
            return exposition.expose(sums, accept)
        except (struct.error, FileNotFoundError):
            time.sleep(_PAUSE_SECONDS)
    return exposition.expose(sums, accept)
