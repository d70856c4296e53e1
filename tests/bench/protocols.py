"""Every protocol of an agent beside `/chat`, and streams that survive their connection beside plain ones."""

import asyncio
import json
import time
from dataclasses import dataclass

import aiohttp
import uvloop

from bench import chats
from bench.forms import FORMS
from bench.report import Results
from bench.targets import Target
from testbed.errors import TestbedError

_CONNECTIONS = 32
_TOKENS = 50
_ROUNDS = 3
# Loads of streams that survive their connection: how many at a time, and the seconds between two tokens.
_LOADS = ((_CONNECTIONS, 0.0), (_CONNECTIONS, 0.02), (1000, 0.1))
_STREAM = f"Hello. [[pace:{{pace:g}}]] [[tokens:{_TOKENS}]]"
_SECONDS_OF_A_STREAM = 60


@dataclass(frozen=True, slots=True)
class Streamed:
    """Streams that one kind of client has read to their end. `cpu_each` is in milliseconds, per stream."""

    per_second: float
    cpu_each: float


def answers(results: Results, agent: Target, *, seconds: int) -> None:
    """Add the table of an agent that answers in every protocol."""
    fast = _STREAM.format(pace=0)
    rows: list[list[object]] = []
    for target in map(agent.speaking, FORMS):
        whole = chats.measure(target, connections=_CONNECTIONS, seconds=seconds)
        streamed = chats.measure(target, connections=_CONNECTIONS, seconds=seconds, message=fast, streamed=True)
        if whole.failed or streamed.failed:
            raise TestbedError(f"{target.name}: {whole.failed} answers and {streamed.failed} streams failed.")
        of_whole, of_streamed = ([one.per_second, one.p50, one.cpu_each] for one in (whole, streamed))
        rows.append([target.name, *of_whole, *of_streamed])
    columns = ["", "answers/s", "p50, ms", "CPU each, ms", "streams/s", "p50, ms", "CPU each, ms"]
    results.add(f"Protocols: answers, and streams of {_TOKENS} tokens, {_CONNECTIONS} at a time", columns, rows)


def resumable_streams(results: Results, agent: Target, *, seconds: int) -> None:
    """Add the table of streams that survive their connection, beside plain ones."""
    rows: list[list[object]] = []
    for most, pace in _LOADS:
        pace_name = f"a token every {pace * 1000:g} ms" if pace else "as fast as the model can"
        name = f"{most:,} at a time, {pace_name}"
        # In turn, so that other work of the machine affects both; the result is that of the median pair.
        pairs = [
            [
                uvloop.run(streams(agent, at_once=most, pace=pace, seconds=seconds, resumable=each))
                for each in (False, True)
            ]
            for _ in range(_ROUNDS)
        ]
        plain, resumable = sorted(pairs, key=lambda pair: pair[1].cpu_each - pair[0].cpu_each)[_ROUNDS // 2]
        added = resumable.cpu_each - plain.cpu_each
        rows.append([name, plain.per_second, plain.cpu_each, resumable.per_second, resumable.cpu_each, added])
    results.add(
        f"Streams of {_TOKENS} tokens that survive their connection, beside plain ones",
        ["", "plain/s", "CPU each, ms", "resumable/s", "CPU each, ms", "added CPU, ms"],
        rows,
    )


async def streams(agent: Target, *, at_once: int, pace: float, seconds: float, resumable: bool) -> Streamed:
    """Read streams in a closed loop, plain ones of `/chat/stream` or the events of a chat in the background."""
    message = _STREAM.format(pace=pace)
    read = _read_resumable if resumable else _read_plain
    timeout = aiohttp.ClientTimeout(total=_SECONDS_OF_A_STREAM)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(agent.url, headers=agent.headers, timeout=timeout, connector=connector) as session:
        await read(session, _STREAM.format(pace=0))
        started, cpu = time.monotonic(), agent.cpu_seconds()

        async def loop() -> int:
            count = 0
            while time.monotonic() < started + seconds:
                await read(session, message)
                count += 1
            return count

        answered = sum(await asyncio.gather(*(loop() for _ in range(at_once))))
        took, cpu = time.monotonic() - started, agent.cpu_seconds() - cpu
    return Streamed(answered / took, cpu * 1000 / answered)


async def _read_plain(session: aiohttp.ClientSession, message: str) -> None:
    async with session.post("/chat/stream", json={"message": message}) as answer:
        _check(answer.status, await answer.read())


async def _read_resumable(session: aiohttp.ClientSession, message: str) -> None:
    async with session.post("/chat", json={"message": message, "background": True}) as accepted:
        url = json.loads(await accepted.read())["events_url"]
    async with session.get(url) as answer:
        _check(answer.status, await answer.read())


def _check(status: int, body: bytes) -> None:
    if status != 200 or b'"done"' not in body:
        raise TestbedError(f"A stream failed with {status}: {body[-300:].decode(errors='replace')}")
