"""Metrics of several processes: each keeps its own in files, and the process that is scraped returns the sums.

See prometheus_client, "Multiprocess Mode". The metrics of a single process (`process_…`, `python_…`) are left out,
because their sum would jump whenever a process is replaced. Exemplars are left out too, because the library does not
keep them in files.
"""

import os
import struct
import time

from prometheus_client import CollectorRegistry, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from agent_service.telemetry import exposition
from agent_service.telemetry.exposition import Exposition

# If set, prometheus_client keeps its values in files of this folder. It reads the variable when it is imported.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"

# A file is empty for a moment after a process has created it.
_TRIES = 3
_PAUSE_SECONDS = 0.01


def folder() -> str | None:
    """Return the folder that this process shares with other processes, or None."""
    return os.environ.get(FOLDER)


def join(number: int) -> None:
    """Name the files of this process by its slot among the processes. Call this before anything is counted.

    prometheus_client would use process ids, so each replaced process would add files.
    """
    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: number)  # type: ignore[no-untyped-call]


def forget_gauges(number: int, where: str) -> None:
    """Remove the live gauges of the process in slot `number` from the sums, because it has ended."""
    mark_process_dead(number, path=where)  # type: ignore[no-untyped-call]


def registry(where: str) -> CollectorRegistry:
    """Return a registry with the sums of all processes that share the folder."""
    sums = CollectorRegistry()
    MultiProcessCollector(sums, path=where)  # type: ignore[no-untyped-call]
    return sums


def expose(sums: CollectorRegistry, accept: str) -> Exposition:
    """Return the sums, in the format that an `Accept` header with this value asks for."""
    for _ in range(_TRIES - 1):
        try:
            return exposition.expose(sums, accept)
        except (struct.error, FileNotFoundError):
            time.sleep(_PAUSE_SECONDS)
    return exposition.expose(sums, accept)
