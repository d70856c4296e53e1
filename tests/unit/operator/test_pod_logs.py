"""`kubectl agent logs`: the logs of all containers as one stream, in order and with bounded memory."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from click.testing import CliRunner

from agent_operator.cli import main
from agent_operator.kube.errors import ApiError
from agent_operator.tools.cluster import Access
from agent_operator.tools.pod_logs.follow import Reading, Selection
from agent_operator.tools.pod_logs.lines import MAX_LINE, Line, Source, concerns, lines
from agent_operator.tools.pod_logs.merge import BUFFER, Merge

AGENT = Source("pod-1", "agent")
RUNTIME = Source("pod-1", "runtime")


def stamped(second: int, text: str) -> bytes:
    return f"2026-11-30T01:00:{second:02}.5Z {text}\n".encode()


class Cluster:
    """An API server with these pods, whose logs are given as chunks by pod and container."""

    namespace = "default"

    def __init__(self, logs: Mapping[Source, list[bytes]]) -> None:
        self.logs = dict(logs)
        self.queries: list[Mapping[str, str]] = []

    async def list(self, *_: Any, **__: Any) -> list[dict[str, Any]]:
        pods: dict[str, list[dict[str, Any]]] = {}
        for source in self.logs:
            state = {"name": source.container, "containerID": str(source), "state": {"running": {}}}
            pods.setdefault(source.pod, []).append(state)
        return [
            {"metadata": {"name": pod}, "status": {"containerStatuses": statuses}} for pod, statuses in pods.items()
        ]

    @asynccontextmanager
    async def stream(self, path: str, query: Mapping[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
        self.queries.append(query)
        yield self._chunks(Source(path.split("/")[-2], query["container"]))

    async def _chunks(self, source: Source) -> AsyncIterator[bytes]:
        for chunk in self.logs[source]:
            if not chunk:
                raise ApiError(403, "Forbidden", "pods/log is forbidden")
            yield chunk


async def read(cluster: Cluster, selection: Selection) -> list[str]:
    reading = Reading(cast("Access", cluster), "hello", selection)
    try:
        return [f"{line.source} {line.text}" async for line in reading.lines()]
    finally:
        await reading.stop()


async def test_lines_of_all_containers_are_in_order() -> None:
    cluster = Cluster(
        {
            AGENT: [stamped(1, "one") + stamped(3, "three")],
            RUNTIME: [stamped(2, "two")[:10], stamped(2, "two")[10:], stamped(4, "four")],
            Source("pod-2", "agent"): [stamped(0, "zero")],
            Source("pod-2", "proxy"): [stamped(0, "not asked for")],
        }
    )

    found = await read(cluster, Selection(seconds=60, tail=5))

    assert found == [
        "pod-2/agent zero",
        "pod-1/agent one",
        "pod-1/runtime two",
        "pod-1/agent three",
        "pod-1/runtime four",
    ]
    assert {(each["sinceSeconds"], each["tailLines"], each.get("follow")) for each in cluster.queries} == {
        ("60", "5", None)
    }


async def test_a_long_log_is_read_whole_through_a_small_buffer() -> None:
    many = [stamped(index // 100, str(index)) for index in range(50 * BUFFER)]

    found = await read(Cluster({AGENT: many, RUNTIME: [stamped(59, "last")]}), Selection())

    assert found == [*(f"pod-1/agent {index}" for index in range(50 * BUFFER)), "pod-1/runtime last"]


async def test_a_refused_log_is_an_error() -> None:
    with pytest.raises(ApiError, match="forbidden"):
        await read(Cluster({AGENT: [b""], RUNTIME: [stamped(1, "one")]}), Selection())


async def test_new_pods_appear_while_following(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_operator.tools.pod_logs.follow.POLL_SECONDS", 0.0)
    cluster = Cluster({AGENT: [stamped(1, "one")]})
    reading = Reading(cast("Access", cluster), "hello", Selection(follow=True))

    stream = aiter(reading.lines())
    first = await anext(stream)
    cluster.logs[Source("pod-2", "runtime")] = [stamped(0, "new")]
    async with asyncio.timeout(20):
        second = await anext(stream)
    await reading.stop()

    assert (first.text, second.text, second.source.pod) == ("one", "new", "pod-2")


async def test_a_log_that_was_cut_off_goes_on_after_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_operator.tools.pod_logs.follow.POLL_SECONDS", 0.0)
    cluster = Cluster({AGENT: [stamped(1, "one")]})
    reading = Reading(cast("Access", cluster), "hello", Selection(follow=True, tail=3))

    stream = aiter(reading.lines())
    first = await anext(stream)
    cluster.logs[AGENT] = [stamped(1, "one"), stamped(2, "two")]
    async with asyncio.timeout(20):
        second = await anext(stream)
    await reading.stop()

    assert (first.text, second.text) == ("one", "two")
    again = cluster.queries[1]
    assert again["sinceTime"] == "2026-11-30T01:00:01Z"
    assert "tailLines" not in again


async def test_a_line_waits_for_earlier_ones_of_other_containers() -> None:
    merge = Merge(following=True)
    agent, runtime = merge.open(AGENT), merge.open(RUNTIME)
    await agent.put(Line(AGENT, 2, "later"))

    stream = aiter(merge)
    asked = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    await runtime.put(Line(RUNTIME, 1, "earlier"))

    assert (await asked).text == "earlier"
    assert (await anext(stream)).text == "later"


async def test_a_line_that_is_too_long_is_cut() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield stamped(1, "")[:-1]
        for _ in range(10):
            yield b"x" * MAX_LINE
        yield b"\nnext\n"

    found = [line.text async for line in lines(AGENT, chunks())]

    assert len(found[0]) < MAX_LINE
    assert set(found[0]) == {"x"}
    assert found[1] == "next"


@pytest.mark.parametrize(
    ("source", "text", "wanted"),
    [
        (AGENT, json.dumps({"request_id": "abc"}), True),
        (AGENT, json.dumps({"task_id": "abc"}), True),
        (AGENT, json.dumps({"event": "abc"}), False),
        (AGENT, json.dumps(["abc"]), False),
        (AGENT, json.dumps({"request_id": {"abc": 1}}), False),
        (AGENT, "abc", False),
        (RUNTIME, "INFO turn abc has started", True),
        (RUNTIME, "INFO another turn", False),
    ],
)
def test_lines_of_one_turn_are_selected(source: Source, text: str, *, wanted: bool) -> None:
    assert concerns(Line(source, 0, text), frozenset({"abc"})) is wanted


def test_times_of_any_zone_and_precision_are_compared() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"2026-11-30T03:00:00.000000002+02:00 b\n2026-11-30T01:00:00Z a\n"

    async def read_times() -> list[int]:
        return [line.time async for line in lines(AGENT, chunks())]

    second, first = asyncio.run(read_times())
    assert second - first == 2


@pytest.mark.parametrize("duration", ["5", "m", "0s", "-1m", "1d"])
def test_a_duration_is_checked(duration: str) -> None:
    done = CliRunner().invoke(main, ["logs", "hello", f"--since={duration}"])

    assert done.exit_code == 2
    assert "Invalid value for '--since'" in done.stderr
