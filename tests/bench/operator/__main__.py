"""The throughput of the operator, compared with the limit of the same API server: `make bench-operator`."""

import asyncio
import signal
import statistics
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import click

from bench import report
from bench.operator import agents, classes, measures
from bench.operator.api import api
from bench.operator.measures import Rate
from bench.operator.plane import Plane, control_plane
from bench.operator.running import Running, operator
from bench.report import Results
from testbed.console import say, step
from testbed.errors import TestbedError

_VERSIONS = ("kopf", "kubernetes", "aiohttp", "pydantic", "structlog")
_MANY = 1000
_EDITS = 200
_SIZES = (100, 500, 1000, 2000, 5000)
_RAW = 500
_CYCLES = 10_000
_BATCH = 500
_OF_CLASS = 100
_CHANGES = 20

_SHARE_OF_RAW = 0.8
_RESTART_SECONDS = 10.0
_START_SECONDS = 60.0
_MEDIAN_SECONDS = 0.2
_P99_SECONDS = 1.0
_RESIDENT_MB = 200.0
_GROWTH_MB = 10.0
_ENFORCED_SECONDS = 1.0

PARTS = ("rate", "thousand", "curve", "classes", "soak")


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(PARTS))
@click.option("--agents", "count", default=_MANY, show_default=True, help="How many agents are many.")
@click.option("--rest-seconds", default=300, show_default=True, help="Seconds at rest in which writes are counted.")
@click.option("--edits", default=_EDITS, show_default=True, help="How many specs are changed, one after another.")
@click.option("--sizes", default=",".join(map(str, _SIZES)), show_default=True, help="Sizes of the curve.")
@click.option("--cycles", default=_CYCLES, show_default=True, help="Agents that the soak creates and deletes.")
@click.option("--controllers", is_flag=True, help="Let kube-controller-manager run, which shares the API server.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="File for the results, as Markdown.")
def main(  # noqa: PLR0917  click calls it by name
    parts: tuple[str, ...],
    count: int,
    rest_seconds: int,
    edits: int,
    sizes: str,
    cycles: int,
    controllers: bool,
    output: Path | None,
) -> None:
    """Measure the operator against a kube-apiserver and an etcd of its own on this machine.

    PARTS are rate (creation compared with the limit of the API server), thousand (rest, restart, edits), curve (start
    and cost from 100 to 5,000 agents), classes (from the change of a class to its effect) and soak (growth over many
    creations and deletions; half an hour). The default is all but soak.
    Nothing is asserted: the last table shows which targets were met. Measure on an idle machine.
    """
    bench = Results()
    found = [report.circumstances("bench.operator", _VERSIONS)]
    click.echo(found[0])
    todo: dict[str, Callable[[Plane], Coroutine[Any, Any, None]]] = {
        "rate": lambda plane: _rate(bench, plane, count),
        "thousand": lambda plane: _thousand(bench, plane, count, rest_seconds, edits),
        "curve": lambda plane: _curve(bench, plane, [int(size) for size in sizes.split(",")]),
        "classes": lambda plane: _classes(bench, plane, min(count, _OF_CLASS)),
        "soak": lambda plane: _soak(bench, plane, cycles),
    }
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        for part in parts or PARTS[:-1]:
            with step(f"Measuring: {part}"), control_plane(controllers=controllers) as plane:
                asyncio.run(todo[part](plane))
    except TestbedError as error:
        say(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        say("Interrupted.")
        sys.exit(130)
    finally:
        bench.finish("The operator against its targets")
        if output is not None:
            output.write_text("\n".join([*found, *bench.tables]), encoding="utf-8")


async def _rate(bench: Results, plane: Plane, count: int) -> None:
    async with api(plane.kubeconfig) as client:
        await agents.make_namespace(client)
        audit = plane.audit_log()
        # Once to warm up the API server, then once before and once after: other load of the machine shows in both.
        await measures.raw_limit(plane, client, audit, min(count, _RAW))
        say("    warm")
        first = await measures.raw_limit(plane, client, audit, min(count, _RAW))
        before = await measures.created_before(plane, client, audit, count)
        second = await measures.raw_limit(plane, client, audit, min(count, _RAW))
        async with operator(plane.kubeconfig) as running:
            await running.started()
            await running.settled(0)
            while_running = await measures.created_while(plane, running, client, audit, range(count))
            await running.stop()
        await agents.delete_all(client)
        third = await measures.raw_limit(plane, client, audit, min(count, _RAW))
    raw_before = (first.agents_per_second + second.agents_per_second) / 2
    raw_while = (second.agents_per_second + third.agents_per_second) / 2
    rows = [
        _rate_row("raw limit, before", first, first.agents_per_second),
        _rate_row(f"operator starts on {count:,} new agents", before, raw_before),
        _rate_row("raw limit, between", second, second.agents_per_second),
        _rate_row(f"{count:,} created while it runs, creation included", while_running, raw_while),
        _rate_row("raw limit, after", third, third.agents_per_second),
    ]
    columns = [
        "",
        "agents/s",
        "writes/s",
        "of raw",
        "writes an agent",
        "all CPU an agent, ms",
        "… of it who writes, ms",
        "in all, s",
    ]
    bench.add(f"New agents, {_with_or_without(plane)}", columns, rows)
    share = before.agents_per_second / raw_before
    # On an idle machine both keep all cores busy, and the ratio of their CPU times is the same; on a shared one it is
    # the more reliable ratio.
    by_cpu = (first.cpu + second.cpu) / (first.agents + second.agents) / (before.cpu / before.agents)
    bench.judge(
        f"{count:,} created at once: {_SHARE_OF_RAW} of the raw limit",
        f"{share:.2f} (by CPU: {by_cpu:.2f})",
        share >= _SHARE_OF_RAW,
    )


def _rate_row(title: str, rate: Rate, raw: float) -> list[object]:
    return [
        title,
        rate.agents_per_second,
        rate.writes_per_second,
        rate.agents_per_second / raw,
        rate.writes / rate.agents,
        rate.cpu / rate.agents * 1000,
        rate.writer_cpu / rate.agents * 1000,
        rate.launch_to_done or rate.seconds,
    ]


async def _thousand(bench: Results, plane: Plane, count: int, rest_seconds: int, edits: int) -> None:
    async with api(plane.kubeconfig) as client:
        await agents.make_namespace(client)
        await agents.create(client, range(count))
        audit = plane.audit_log()
        async with _launched(plane) as running:
            await running.settled(count)
            say(f"    {count:,} agents; now at rest for {rest_seconds} s")
            resident = running.resident_mb
            at_rest, share = await measures.writes_at_rest(running, audit, rest_seconds)
            changed = await measures.edits(client, edits, count)
            await running.settled(0)
            await running.stop()
        audit.read()
        async with _launched(plane) as running:
            again = await measures.start(running, audit, count)
            await running.stop()
    bench.add(
        f"{count:,} agents, {_with_or_without(plane)}",
        ["", "found"],
        [
            [f"writes in {rest_seconds} s at rest", at_rest],
            ["share of a core at rest", share],
            ["launch to watching at a restart, s", again.started],
            ["launch to settled at a restart, s", again.settled],
            ["writes across the restart", again.writes],
            [f"an edit, median of {edits}, ms", changed.median * 1000],
            ["an edit, p99, ms", changed.p99 * 1000],
            ["resident after creation, MB", resident],
            ["resident after the restart, MB", again.resident_mb],
        ],
    )
    bench.judge(f"{rest_seconds} s at rest: no write", f"{at_rest}", at_rest == 0)
    bench.judge("a restart: no write", f"{again.writes}", again.writes == 0)
    bench.judge(
        f"a restart: settled in {_RESTART_SECONDS:.0f} s", f"{again.settled:.1f} s", again.settled < _RESTART_SECONDS
    )
    bench.judge("an edit: median under 200 ms", f"{changed.median * 1000:.0f} ms", changed.median < _MEDIAN_SECONDS)
    bench.judge("an edit: p99 under 1 s", f"{changed.p99 * 1000:.0f} ms", changed.p99 < _P99_SECONDS)
    most = max(resident, again.resident_mb)
    bench.judge(f"memory at {count:,}: under {_RESIDENT_MB:.0f} MB", f"{most:.0f} MB", most < _RESIDENT_MB)


async def _curve(bench: Results, plane: Plane, sizes: list[int]) -> None:
    rows: list[list[object]] = []
    async with api(plane.kubeconfig) as client:
        await agents.make_namespace(client)
        audit = plane.audit_log()
        made = 0
        for size in sizes:
            async with _launched(plane) as running:
                await running.settled(made)
                more = await measures.created_while(plane, running, client, audit, range(made, size))
                resident = running.resident_mb
                await running.stop()
            made = size
            audit.read()
            async with _launched(plane) as running:
                found = await measures.start(running, audit, size)
                await running.stop()
            say(f"    {size:,} agents: settled {found.settled:.1f} s after the launch, {found.writes} writes")
            create = [more.seconds / more.agents * 1000, more.writer_cpu / more.agents * 1000]
            starts = [found.settled, found.writes, found.cpu, found.cpu / size * 1000]
            rows.append([f"{size:,}", *create, *starts, resident, found.resident_mb])
    columns = [
        "agents",
        "creation of each, ms",
        "CPU of it, ms",
        "restart settled, s",
        "writes",
        "CPU of the restart, s",
        "… an agent, ms",
        "resident after creation, MB",
        "after the restart, MB",
    ]
    bench.add(f"From {sizes[0]:,} to {sizes[-1]:,} agents, {_with_or_without(plane)}", columns, rows)
    bench.judge(
        f"start with {sizes[-1]:,}: settled in {_START_SECONDS:.0f} s, no write",
        f"{found.settled:.1f} s, {found.writes} writes",
        found.settled < _START_SECONDS and found.writes == 0,
    )


async def _classes(bench: Results, plane: Plane, count: int) -> None:
    async with api(plane.kubeconfig) as client, _launched(plane) as running:
        await agents.make_namespace(client)
        await running.started()
        delays = await classes.measure(plane, running, client, count=count, changes=_CHANGES)
        await running.stop()
    rows = {
        "a new agent is refused, or accepted": delays.admission,
        "the status of the first agent": delays.first,
        "the status of the last agent": delays.last,
    }
    bench.add(
        f"From the change of a class to its effect, {count:,} agents, {_CHANGES} changes",
        ["", "median, ms", "longest, ms"],
        [[title, statistics.median(found) * 1000, max(found) * 1000] for title, found in rows.items()],
    )
    longest = max(delays.admission)
    bench.judge("a changed class: in force within 1 s", f"{longest * 1000:.0f} ms", longest < _ENFORCED_SECONDS)


async def _soak(bench: Results, plane: Plane, cycles: int) -> None:
    rows: list[list[object]] = []
    async with api(plane.kubeconfig) as client, _launched(plane) as running:
        await agents.make_namespace(client)
        await running.settled(0)
        rows.append(["at rest", running.resident_mb])
        resident: list[float] = []
        batch = min(_BATCH, cycles)
        for done in range(batch, cycles + 1, batch):
            await measures.cycle(running, client, batch)
            resident.append(running.resident_mb)
            rows.append([f"after {done:,}", resident[-1]])
            say(f"    {done:,} created and deleted, {resident[-1]:.0f} MB")
        await running.stop()
    bench.add(f"Agents created and deleted, {batch} at a time", ["", "resident, MB"], rows)
    # The first tenth fills what is never freed: code, memory pools, caches of patterns.
    growth = resident[-1] - resident[len(resident) // 10]
    bench.judge(f"{cycles:,} created and deleted: no growth", f"{growth:+.1f} MB", growth < _GROWTH_MB)


def _launched(plane: Plane) -> AbstractAsyncContextManager[Running]:
    return operator(plane.kubeconfig)


def _with_or_without(plane: Plane) -> str:
    return "kube-controller-manager running" if plane.controllers else "kube-controller-manager stopped"


if __name__ == "__main__":
    main()
