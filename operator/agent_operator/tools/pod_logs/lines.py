"""Lines of a container's log, with their times, and the selection of those of one turn."""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from agent_operator.manifests.names import CONTAINER

# Longer lines are cut: a few of them per container are kept in memory.
MAX_LINE = 16 * 1024
# Fields of the service's log that identify a turn.
_FIELDS = ("request_id", "task_id", "turn_id", "turn")
# RFC 3339, as the kubelet writes it before each line with `timestamps=true`.
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ?")


@dataclass(frozen=True)
class Source:
    """A container of a pod."""

    pod: str
    container: str

    def __str__(self) -> str:
        return f"{self.pod}/{self.container}"


@dataclass(frozen=True)
class Line:
    """A line of a log. `time` is in nanoseconds since 1970."""

    source: Source
    time: int
    text: str


async def lines(source: Source, chunks: AsyncIterator[bytes]) -> AsyncIterator[Line]:
    """Yield the lines of a log. A line without a time has that of the line before."""
    time = 0
    async for raw in _split(chunks):
        text = raw.decode(errors="replace").rstrip("\r")
        match = _TIME.match(text)
        if match is not None:
            time, text = _nanoseconds(match), text[match.end() :]
        yield Line(source, time, text)


async def _split(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the lines of a stream without their line breaks, cut to MAX_LINE bytes."""
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for each in whole:
            yield each[:MAX_LINE]
        # The rest of a line that is too long is dropped as it arrives.
        rest = rest[:MAX_LINE]
    if rest:
        yield rest


def _nanoseconds(match: re.Match[str]) -> int:
    whole, fraction, zone = match.groups()
    seconds = int(datetime.fromisoformat(f"{whole}{zone}").timestamp())
    return seconds * 10**9 + int((fraction or "").ljust(9, "0"))


def concerns(line: Line, wanted: frozenset[str]) -> bool:
    """Return whether a line belongs to one of these turns, requests or tasks. With none, all lines do.

    A line of the agent is a JSON object with the id in one of its fields. Other containers have formats of their own,
    so that a line belongs to a turn if it contains the id.
    """
    if not wanted:
        return True
    if line.source.container != CONTAINER:
        return any(each in line.text for each in wanted)
    try:
        entry = json.loads(line.text)
    except ValueError:
        return False
    return isinstance(entry, dict) and not wanted.isdisjoint(
        value for field in _FIELDS if isinstance(value := entry.get(field), str)
    )
