"""The gateway, and turns that a runtime answers, compared with what they replace: `make bench BENCH=--runtime`.

Two programs that are compared run at the same time and are measured in turn, in pairs: other work of the machine then
affects both. A result is the median of all pairs.
"""

import http.client
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

from bench import chats, streams, targets
from bench.report import Results
from bench.targets import Target
from support.redis_server import running_redis
from testbed.console import step
from testbed.errors import TestbedError
from testbed.ports import free_port

_CONNECTIONS = 32
_FAST_STREAM = "Hello. [[pace:0]] [[tokens:50]]"
_STREAMS = 1000
_PACE_SECONDS = 0.1
_REQUESTS = 200

# The targets.
_SHARE_OF_AIOHTTP = 0.6
_MORE_CPU_MS = 1.2
_SHARE_OF_BUILT_IN = 0.7
_MORE_MB = 10.0
_LATENESS_P99_MS = 250.0


@dataclass(frozen=True, slots=True)
class _Programs:
    """The folder of the logs, and the servers that all programs share."""

    folder: Path
    model: Target
    redis_url: str

    @contextmanager
    def agent(self, name: str, *, answers_itself: bool) -> Iterator[Target]:
        """Run an agent, with a runtime that calls the model through the gateway unless it answers itself."""
        if answers_itself:
            with targets.ours(self.folder, self.model.url, self.redis_url, name=name) as agent:
                yield agent
            return
        port, runtime_port = free_port(), free_port()
        runtime_url = f"http://127.0.0.1:{runtime_port}"
        with (
            targets.calling_runtime(
                self.folder, f"http://127.0.0.1:{port}", name=f"runtime of {name}", port=runtime_port
            ),
            targets.ours(
                self.folder, self.model.url, self.redis_url, name=name, runtime_url=runtime_url, gateway_port=port
            ) as agent,
        ):
            yield agent


@dataclass(frozen=True, slots=True)
class _Compared:
    """Two programs under the same load, pair by pair."""

    reference: list[chats.Chats]
    ours: list[chats.Chats]

    @property
    def share(self) -> float:
        """Our rate as a share of the reference's."""
        return statistics.median(b.per_second / a.per_second for a, b in zip(self.reference, self.ours, strict=True))

    @property
    def more_cpu(self) -> float:
        """The processor time that one of ours takes beyond one of the reference's, in ms."""
        return statistics.median(b.cpu_each - a.cpu_each for a, b in zip(self.reference, self.ours, strict=True))

    def rows(self, reference: Target, ours: Target) -> list[list[object]]:
        """Return the medians of both, and of the pairs."""
        rows: list[list[object]] = []
        for target, found in ((reference, self.reference), (ours, self.ours)):
            names = ("per_second", "p50", "p99", "cpu_each")
            rows.append([target.name, *(statistics.median(getattr(one, name) for one in found) for name in names)])
        return [*rows, ["in pairs", f"{self.share:.2f} of it", "", "", f"{self.more_cpu:+.2f}"]]


def measure(results: Results, *, rounds: int, seconds: int, stream_seconds: int) -> None:
    """Measure everything, and judge it by the targets.

    Args:
        results: takes the tables.
        rounds: number of pairs of each comparison.
        seconds: seconds of load for each figure of a pair.
        stream_seconds: seconds that each of the many streams lasts.
    """
    with ExitStack() as stack, step("Measuring"):
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="portside-bench-")))
        redis = stack.enter_context(running_redis(folder))
        model = stack.enter_context(targets.model(folder))
        programs = _Programs(folder, model, redis.url)
        try:
            _gateway(results, programs, rounds, seconds)
            _chat(results, programs, rounds, seconds)
            _memory(results, programs, rounds)
            _many_streams(results, programs, stream_seconds)
        finally:
            results.finish("The gateway and the runtime against their targets")


def _gateway(results: Results, programs: _Programs, rounds: int, seconds: int) -> None:
    with (
        targets.bare_gateway(programs.folder, programs.model.url) as bare,
        targets.gateway(programs.folder, programs.model.url, programs.redis_url) as gateway,
    ):
        calls = _compare(
            bare, gateway, rounds, lambda one: chats.measure(one, connections=_CONNECTIONS, seconds=seconds)
        )
        streamed = _compare(bare, gateway, rounds, lambda one: _fast_streams(one, seconds))
    results.add("Calls of the model, 32 at a time", _columns("calls/s"), calls.rows(bare, gateway))
    results.add("Streams of 50 tokens, 32 at a time", _columns("streams/s"), streamed.rows(bare, gateway))
    results.judge(
        f"gateway: {_SHARE_OF_AIOHTTP} of the calls/s of aiohttp alone",
        f"{calls.share:.2f}",
        calls.share >= _SHARE_OF_AIOHTTP,
    )
    results.judge(
        f"gateway: at most {_MORE_CPU_MS} ms more CPU per stream of 50 tokens",
        f"{streamed.more_cpu:.2f} ms",
        streamed.more_cpu <= _MORE_CPU_MS,
    )


def _chat(results: Results, programs: _Programs, rounds: int, seconds: int) -> None:
    folder, model_url, redis_url = programs.folder, programs.model.url, programs.redis_url
    with (
        targets.instant_runtime(folder) as runtime,
        targets.ours(folder, model_url, redis_url, name="built-in agent") as built_in,
        targets.ours(folder, model_url, redis_url, name="instant runtime behind it", runtime_url=runtime.url) as ours,
    ):
        chatted = _compare(
            built_in, ours, rounds, lambda one: chats.measure(one, connections=_CONNECTIONS, seconds=seconds)
        )
    results.add("Chats, answered at once, 32 at a time", _columns("chats/s"), chatted.rows(built_in, ours))
    results.judge(
        f"`/chat` through a runtime that answers at once: {_SHARE_OF_BUILT_IN} of the built-in agent's rate",
        f"{chatted.share:.2f}",
        chatted.share >= _SHARE_OF_BUILT_IN,
    )


def _memory(results: Results, programs: _Programs, rounds: int) -> None:
    """Compare the memory of the agent's own processes after some requests; the runtime's does not count."""
    with_runtime: list[float] = []
    without: list[float] = []
    for _ in range(rounds):
        with (
            programs.agent("built-in agent", answers_itself=True) as built_in,
            programs.agent("agent with a runtime", answers_itself=False) as ours,
        ):
            for one, found in ((built_in, without), (ours, with_runtime)):
                _ask(one, _REQUESTS)
                found.append(one.proportional_mb())
    more = statistics.median(b - a for a, b in zip(without, with_runtime, strict=True))
    rows: list[list[object]] = [
        ["built-in agent", statistics.median(without)],
        ["with a runtime and the gateway", statistics.median(with_runtime)],
    ]
    results.add(f"Memory of the agent after {_REQUESTS} chats", ["", "PSS, MB"], rows)
    results.judge(f"with a runtime: at most {_MORE_MB:g} MB more", f"{more:.1f} MB", more <= _MORE_MB)


def _many_streams(results: Results, programs: _Programs, seconds: int) -> None:
    tokens = round(seconds / _PACE_SECONDS)
    rows: list[list[object]] = []

    def run(target: Target) -> streams.Streams:
        one = uvloop.run(streams.measure(target, streams=_STREAMS, tokens=tokens, pace=_PACE_SECONDS))
        rows.append(one.row(target))
        return one

    run(programs.model)
    with targets.calling_runtime(programs.folder, programs.model.url, name="runtime alone") as alone:
        run(alone)
    with programs.agent("agent, runtime, gateway", answers_itself=False) as agent:
        whole = run(agent)
    results.add(
        f"Streams open at once, a token every {_PACE_SECONDS:g} s for {seconds} s; lateness of tokens in ms",
        streams.COLUMNS,
        rows,
    )
    results.judge(
        f"{_STREAMS:,} streams through agent, runtime, gateway and model: all complete",
        f"{whole.complete:,}",
        whole.complete == _STREAMS,
    )
    results.judge(
        f"… added lateness p99 under {_LATENESS_P99_MS:g} ms",
        f"{whole.added_p99:.0f} ms",
        whole.added_p99 < _LATENESS_P99_MS,
    )


def _compare(reference: Target, ours: Target, rounds: int, measured: Callable[[Target], chats.Chats]) -> _Compared:
    """Measure both `rounds` times, each of them first in every other round."""
    found = _Compared([], [])
    for number in range(rounds):
        pair = [(reference, found.reference), (ours, found.ours)]
        for target, figures in pair if number % 2 == 0 else reversed(pair):
            figures.append(measured(target))
            if figures[-1].failed:
                raise TestbedError(f"{target.name}: {figures[-1].failed} requests failed.")
    return found


def _fast_streams(target: Target, seconds: int) -> chats.Chats:
    return chats.measure(target, connections=_CONNECTIONS, seconds=seconds, message=_FAST_STREAM, streamed=True)


def _columns(rate: str) -> list[str]:
    return ["", rate, "p50, ms", "p99, ms", "CPU each, ms"]


def _ask(target: Target, requests: int) -> None:
    """Chat over one connection."""
    address = urlsplit(target.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    headers = {**target.headers, "Content-Type": "application/json"}
    for _ in range(requests):
        connection.request("POST", target.chat_path, target.chat_body("Hello, how are you?"), headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status != http.client.OK:
            raise TestbedError(f"{target.name}: a chat failed with status {answer.status}.")
    connection.close()
