"""Many open streams at once: what arrives, and how long after the model sent it."""

import asyncio
import json
import re
import time
import urllib.request
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

from bench.targets import Target

_STAMPS = re.compile(rb"(\d+\.\d{6}) (\d+\.\d{6}) ")
# 500 new streams a second: many, but neither opened in one instant nor in step afterwards.
_OPENING_SECONDS = 0.002

# Of a table of streams; `Streams.row` has the values.
COLUMNS = [
    "",
    "complete",
    "p99, model",
    "added p50",
    "added p99",
    "added, worst",
    "CPU per 50 tokens, ms",
    "resident, MB",
]

# Nothing in the bench takes longer, unless it hangs.
_GRACE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Streams:
    """The measured latencies in milliseconds: the model's own, and the one added on the way to the reader."""

    complete: int
    opened: int
    tokens: int
    model_p99: float
    added_p50: float
    added_p99: float
    added_worst: float
    cpu_each_50: float

    def row(self, target: Target) -> list[object]:
        """Return the values for `COLUMNS`, with the present memory of the target."""
        lateness = [self.model_p99, self.added_p50, self.added_p99, self.added_worst]
        complete = f"{self.complete:,} of {self.opened:,}"
        return [target.name, complete, *lateness, self.cpu_each_50, target.resident_mb()]


async def measure(target: Target, *, streams: int, tokens: int, pace: float) -> Streams:
    """Open `streams` streams of `tokens` tokens, `pace` seconds apart, and read each to its end."""
    message = f"Say it slowly. [[pace:{pace}]] [[tokens:{tokens}]]"
    readers = []
    cpu = target.cpu_seconds()
    for _ in range(streams):
        readers.append(await _open(target, message))
        await asyncio.sleep(_OPENING_SECONDS)
    await asyncio.wait([reader.ended for reader in readers], timeout=tokens * pace + _GRACE_SECONDS)
    cpu = target.cpu_seconds() - cpu
    for reader in readers:
        reader.close()
    added = sorted(late for reader in readers for late in reader.added)
    own = sorted(late for reader in readers for late in reader.own)
    return Streams(
        complete=sum(reader.complete and len(reader.added) == tokens for reader in readers),
        opened=streams,
        tokens=len(added),
        model_p99=_percentile(own, 99),
        added_p50=_percentile(added, 50),
        added_p99=_percentile(added, 99),
        added_worst=_percentile(added, 100),
        cpu_each_50=cpu * 1000 / max(1, len(added)) * 50,
    )


async def leave(target: Target, *, streams: int, at_once: int) -> None:
    """Open streams and disconnect at the first token of each, `at_once` at a time."""
    message = "Say it slowly. [[pace:0.02]] [[tokens:500]]"
    left = iter(range(streams))

    async def one_after_the_other() -> None:
        for _ in left:
            reader = await _open(target, message)
            async with asyncio.timeout(_GRACE_SECONDS):
                await reader.started
            reader.close()

    await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))


def at_model(model: Target) -> tuple[int, int]:
    """Return how many paced streams are open at the model API of the bench, and how many clients left early."""
    with urllib.request.urlopen(f"{model.url}/streams", timeout=5) as answer:  # noqa: S310  # a loopback address of ours
        seen = json.load(answer)
    return int(seen["open"]), int(seen["left"])


class _Reader(asyncio.Protocol):
    def __init__(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.started: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.added: list[float] = []
        self.own: list[float] = []
        self.complete = False
        self._request = request
        self._kept = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        self._kept += data
        end = 0
        for stamps in _STAMPS.finditer(self._kept):
            due, sent = float(stamps[1]), float(stamps[2])
            self.added.append((now - sent) * 1000)
            self.own.append((sent - due) * 1000)
            end = stamps.end()
        if self.added and not self.started.done():
            self.started.set_result(None)
        if self._kept.endswith(b"0\r\n\r\n"):
            self.complete = b'"done"' in self._kept or b'"message_stop"' in self._kept
            self.close()
        self._kept = self._kept[end:]

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.started, self.ended):
            if not future.done():
                future.set_result(None)

    def close(self) -> None:
        self._transport.close()


async def _open(target: Target, message: str) -> _Reader:
    address = urlsplit(target.url)
    body = target.stream_body(message)
    headers = {**target.headers, "Host": address.netloc, "Content-Type": "application/json"}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"POST {target.stream_path} HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    loop = asyncio.get_running_loop()
    _, reader = await loop.create_connection(lambda: _Reader(request), address.hostname or "", address.port or 0)
    return reader


def _percentile(values: list[float], percent: int) -> float:
    return values[min(len(values) - 1, len(values) * percent // 100)] if values else float("nan")
