"""The throughput and latency of the agent API, compared with a baseline and a peer: `make bench`."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import uvloop

from bench import chats, identity, peer, protocols, report, streams, targets, with_runtime
from bench.targets import Target
from support.redis_server import running_redis
from testbed.console import say, step
from testbed.errors import TestbedError

_CONNECTIONS = (1, 32, 256)
_SLOW_MODEL_SECONDS = 0.2
_CROWD = 256
_STREAMS = 1000
# The peer cannot keep a thousand streams open; its row states how many were used.
_STREAMS_OF_PEER = 50
_PACE_SECONDS = 0.1


@dataclass
class Bench:
    """The running programs, and where results are added."""

    model: Target
    ours: Target
    all: list[Target]
    add: Callable[[str, list[str], list[list[object]]], None]


@click.command()
@click.option("--without-litellm", is_flag=True, help="Leave the peer out.")
@click.option("--seconds", default=6, show_default=True, help="Seconds of load for each figure of chats.")
@click.option("--stream-seconds", default=30, show_default=True, help="Seconds that each stream lasts.")
@click.option("--soak", is_flag=True, help="Only look for growth: 100,000 chats and 10,000 cancelled streams.")
@click.option("--runtime", is_flag=True, help="Measure only the gateway and turns that a runtime answers.")
@click.option("--protocols", "only_protocols", is_flag=True, help="Measure only the client protocols.")
@click.option(
    "--resumable", is_flag=True, help="Measure only streams that survive their connection, beside plain ones."
)
@click.option("--identity", "only_identity", is_flag=True, help="Measure only agents without a key.")
@click.option("--rounds", default=5, show_default=True, help="How often --runtime and --identity compare a pair.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="File for the results, as Markdown.")
def main(
    *,
    without_litellm: bool,
    seconds: int,
    stream_seconds: int,
    soak: bool,
    runtime: bool,
    only_protocols: bool,
    resumable: bool,
    only_identity: bool,
    rounds: int,
    output: Path | None,
) -> None:
    """Measure the agent API: one worker, settings of production, on loopback; some eight minutes.

    In the same run: the model API's stand-in alone (the lower bound), a plain passthrough with no SDK (the limit in
    Python), and LiteLLM's proxy (the peer). Measure on an idle machine: all of them share its cores.
    """
    found = [report.circumstances()]
    results = report.Results()
    try:
        if runtime:
            with_runtime.measure(results, rounds=rounds, seconds=seconds, stream_seconds=stream_seconds)
        elif only_identity:
            identity.measure(results, rounds=rounds)
        elif only_protocols or resumable:
            _protocols(results, seconds, with_answers=not resumable)
        elif soak:
            with _everything(results, with_peer=False, with_limit=False) as bench:
                _soak(bench)
        else:
            with _everything(results, with_peer=not without_litellm, with_limit=True) as bench:
                _at_rest(bench)
                for connections in _CONNECTIONS:
                    _chats(bench, connections, seconds)
                _slow_model(bench, seconds)
                _quick_streams(bench, seconds)
                _streams(bench, stream_seconds)
            _protocols(results, seconds)
    except TestbedError as error:
        say(str(error))
        sys.exit(1)
    if output is not None:
        output.write_text("\n".join([*found, *results.tables]), encoding="utf-8")


@contextmanager
def _everything(results: report.Results, *, with_peer: bool, with_limit: bool) -> Iterator[Bench]:
    environment = peer.environment() if with_peer else None
    with ExitStack() as stack, step("Measuring"):
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="portside-bench-")))
        redis = stack.enter_context(running_redis(folder))
        model = stack.enter_context(targets.model(folder))
        ours = stack.enter_context(targets.ours(folder, model.url, redis.url))
        all_targets = [model, ours]
        if with_limit:
            all_targets.insert(1, stack.enter_context(targets.passthrough(folder, model.url)))
        if environment is not None:
            all_targets.append(stack.enter_context(targets.litellm(folder, model.url, environment)))
        yield Bench(model, ours, all_targets, results.add)


def _at_rest(bench: Bench) -> None:
    rows: list[list[object]] = [
        [target.name, target.start_seconds, target.resident_mb()] for target in bench.all if target.start_seconds
    ]
    bench.add("Start, and memory at rest", ["", "start to ready, s", "resident, MB"], rows)


def _chats(bench: Bench, connections: int, seconds: int) -> None:
    measured = []
    for target in bench.all:
        measured.append(chats.measure(target, connections=connections, seconds=seconds))
        _must_not_fail(target, measured[-1])
    floor = measured[0].p50
    rows: list[list[object]] = [
        [target.name, one.per_second, one.p50, one.p99, one.p50 - floor, one.cpu_each, target.resident_mb()]
        for target, one in zip(bench.all, measured, strict=True)
    ]
    columns = ["", "chats/s", "p50, ms", "p99, ms", "added p50, ms", "CPU each, ms", "resident, MB"]
    bench.add(f"Chats, model answers at once, {connections} at a time", columns, rows)


def _slow_model(bench: Bench, seconds: int) -> None:
    ideal = _CROWD / _SLOW_MODEL_SECONDS
    rows: list[list[object]] = []
    for target in bench.all:
        one = chats.measure(
            target, connections=_CROWD, seconds=seconds + 2, message=f"Hello. [[delay:{_SLOW_MODEL_SECONDS}]]"
        )
        _must_not_fail(target, one)
        rows.append([target.name, one.per_second, one.per_second / ideal, one.p50, one.p99])
    bench.add(
        f"Chats, model takes {_SLOW_MODEL_SECONDS:g} s, {_CROWD} at a time (ideal: {ideal:,.0f}/s)",
        ["", "chats/s", "of the ideal", "p50, ms", "p99, ms"],
        rows,
    )


def _quick_streams(bench: Bench, seconds: int) -> None:
    rows: list[list[object]] = []
    for target in bench.all:
        one = chats.measure(
            target, connections=32, seconds=seconds, message="Hello. [[pace:0]] [[tokens:50]]", streamed=True
        )
        _must_not_fail(target, one)
        rows.append([target.name, one.per_second, one.p50, one.p99, one.cpu_each])
    bench.add(
        "Streams of 50 tokens, as fast as the model can write them one by one, 32 at a time",
        ["", "streams/s", "p50, ms", "p99, ms", "CPU each, ms"],
        rows,
    )


def _streams(bench: Bench, seconds: int) -> None:
    tokens = round(seconds / _PACE_SECONDS)
    rows: list[list[object]] = []
    for target in bench.all:
        count = _STREAMS_OF_PEER if target.name == targets.PEER else _STREAMS
        one = uvloop.run(streams.measure(target, streams=count, tokens=tokens, pace=_PACE_SECONDS))
        rows.append(one.row(target))
    bench.add(
        f"Streams open at once, a token every {_PACE_SECONDS:g} s for {seconds} s; lateness of tokens in ms",
        streams.COLUMNS,
        rows,
    )


def _protocols(results: report.Results, seconds: int, *, with_answers: bool = True) -> None:
    with ExitStack() as stack, step("Measuring the client protocols"):
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="portside-bench-")))
        redis = stack.enter_context(running_redis(folder))
        model = stack.enter_context(targets.model(folder))
        agent = stack.enter_context(targets.ours(folder, model.url, redis.url, protocols=True))
        if with_answers:
            protocols.answers(results, agent, seconds=seconds)
        protocols.resumable_streams(results, agent, seconds=seconds)


def _soak(bench: Bench) -> None:
    rows: list[list[object]] = [["at rest", bench.ours.resident_mb()]]
    answered = 0
    for goal in (10_000, 25_000, 50_000, 75_000, 100_000):
        while answered < goal:
            one = chats.measure(bench.ours, connections=32, seconds=5)
            _must_not_fail(bench.ours, one)
            answered += one.answered
        rows.append([f"after {answered:,} chats", bench.ours.resident_mb()])
        say(f"    {answered:,} chats")
    for goal in range(2_000, 10_001, 2_000):
        uvloop.run(streams.leave(bench.ours, streams=2_000, at_once=100))
        rows.append([f"after {goal:,} cancelled streams", bench.ours.resident_mb()])
        say(f"    {goal:,} cancelled streams")
    open_at_model, left = streams.at_model(bench.model)
    rows.append(["streams that the model saw cancelled, and still open", f"{left:,}, {open_at_model:,}"])
    bench.add("Growth of the agent API", ["", "resident, MB"], rows)


def _must_not_fail(target: Target, seen: chats.Chats) -> None:
    if seen.failed:
        raise TestbedError(f"{target.name}: {seen.failed} of {seen.answered + seen.failed} chats failed.")


if __name__ == "__main__":
    main()
