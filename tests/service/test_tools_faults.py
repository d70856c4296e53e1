"""Servers of tools that restart, are away, are slow, never end, send too much, or send what is not valid."""

import asyncio
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agent_service.agent.errors import UnreachableError
from agent_service.tooling.listing import MOST_TOOLS
from support.mcp_servers import StartServer, eventually_recorded, hostile_server, sdk_server
from support.toolbox import entry, running_tools, text

OWN = ("add", "fail", "grow", "headers", "picture", "shrink", "slow", "text", "total", "who")
KINDS = {"2026-07-28": {}, "2025-11-25 with sessions": {"legacy": True}}
OBJECT = {"type": "object"}
MAY_HAVE_RUN = "The call may have run"
DID_NOT_RUN = "The call did not run"

# Answers of the hostile server below are unbounded or of 100 MB. The bound of an answer is just above 1 MiB.
MOST_MEMORY_BYTES = 16 * 2**20


def tool(name: str, schema: Any = None) -> dict[str, Any]:
    return {"name": name, "description": name, "inputSchema": OBJECT if schema is None else schema}


async def in_thread(action: Callable[[], object]) -> None:
    await asyncio.to_thread(action)


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS.keys())
async def test_a_call_after_a_restart_of_the_server_works(
    options: dict[str, Any], start_mcp: StartServer, tmp_path: Path
) -> None:
    server = start_mcp(**options)
    async with running_tools(tmp_path, entry(server)) as tools:
        await tools.until(*OWN)
        await in_thread(server.restart)
        result = await tools.call("add", a=1, b=2)

        assert text(result) == "3"
        assert len(server.recorded()) == 1


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS.keys())
async def test_a_call_waits_for_a_server_that_restarts(
    options: dict[str, Any], start_mcp: StartServer, tmp_path: Path
) -> None:
    server = start_mcp(**options)
    async with running_tools(tmp_path, entry(server)) as tools:
        await tools.until(*OWN)
        server.kill()
        call = asyncio.create_task(tools.call("add", a=1, b=2))
        still_listed = await tools.names()
        server.launch()
        result = await call

        assert text(result) == "3"
        assert len(server.recorded()) == 1
        assert still_listed == sorted(OWN)


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS.keys())
async def test_a_call_that_a_restart_interrupts_may_have_run_and_is_not_repeated(
    options: dict[str, Any], start_mcp: StartServer, tmp_path: Path
) -> None:
    server = start_mcp(**options)
    async with running_tools(tmp_path, entry(server)) as tools:
        await tools.until(*OWN)
        call = asyncio.create_task(tools.call("slow", duration=600, label="one"))
        await eventually_recorded(server, "started")
        await in_thread(server.restart)
        result = await call

        assert result.is_error
        assert result.outcome == "lost"
        assert MAY_HAVE_RUN in text(result)
        assert text(await tools.call("add", a=1, b=2)) == "3"
        assert sum(each.get("event") == "started" for each in server.recorded()) == 1


async def test_a_server_that_is_away_at_the_start_is_used_when_it_comes(tmp_path: Path, start_mcp: StartServer) -> None:
    folder = tmp_path / "late"
    folder.mkdir()
    late = sdk_server(folder)
    async with running_tools(tmp_path, entry(start_mcp(), "here", allow=["who"]), entry(late, "late")) as tools:
        assert await tools.names() == ["who"]
        assert tools.metric("agent_tool_server_up", server="late") == 0
        assert [(state.is_up, state.kind) for state in tools.box.states()] == [
            (True, None),
            (False, "connection_refused"),
        ]
        try:
            await in_thread(late.start)
            await tools.until_listed("late__who")
            assert tools.metric("agent_tool_server_up", server="late") == 1
        finally:
            late.kill()


async def test_no_turn_is_answered_while_a_server_is_away_that_the_agent_needs(tmp_path: Path) -> None:
    async with running_tools(tmp_path, entry(sdk_server(tmp_path), onUnavailable="fail")) as tools:
        with pytest.raises(UnreachableError):
            await tools.box.tools()


async def test_a_call_of_a_server_that_stays_away_did_not_run(start_mcp: StartServer, tmp_path: Path) -> None:
    server = start_mcp()
    async with running_tools(tmp_path, entry(server)) as tools:
        await tools.until(*OWN)
        server.kill()
        result = await tools.call("add", seconds=1.5, a=1, b=2)

        assert result.is_error
        assert DID_NOT_RUN in text(result)


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS.keys())
async def test_a_call_ends_at_its_time_limit_and_other_calls_go_on(
    options: dict[str, Any], start_mcp: StartServer, tmp_path: Path
) -> None:
    server = start_mcp(**options)
    async with running_tools(tmp_path, entry(server, timeoutSeconds=5)) as tools:
        await tools.until(*OWN)
        late, answered = await asyncio.gather(
            tools.call("slow", duration=600, label="late"), tools.call("add", a=1, b=2)
        )
        await eventually_recorded(server, "cancelled")

        assert late.outcome == "timed_out"
        assert MAY_HAVE_RUN in text(late)
        assert text(answered) == "3"


async def test_a_call_ends_at_the_deadline_of_its_turn(start_mcp: StartServer, tmp_path: Path) -> None:
    async with running_tools(tmp_path, entry(start_mcp())) as tools:
        await tools.until(*OWN)
        result = await tools.call("slow", seconds=1, duration=600, label="late")
        passed = await tools.call("add", seconds=-1, a=1, b=2)

        assert result.outcome == "timed_out"
        assert DID_NOT_RUN in text(passed)


async def test_a_server_that_hangs_does_not_delay_other_servers(tmp_path: Path, start_mcp: StartServer) -> None:
    folder = tmp_path / "hangs"
    folder.mkdir()
    hangs = hostile_server(folder, hang=True)
    hangs.launch()
    try:
        async with running_tools(tmp_path, entry(hangs, "hangs"), entry(start_mcp(), allow=["add"])) as tools:
            await tools.until("add")
            assert text(await tools.call("add", a=1, b=2)) == "3"
    finally:
        hangs.kill()


HOSTILE = {
    "hundred_megabytes": ("too_large", MAY_HAVE_RUN),
    "endless_json": ("too_large", MAY_HAVE_RUN),
    "endless_event": ("too_large", MAY_HAVE_RUN),
    "endless_notifications": ("timed_out", MAY_HAVE_RUN),
    "never": ("timed_out", MAY_HAVE_RUN),
    "broken": ("lost", MAY_HAVE_RUN),
    "bomb": ("unreadable", MAY_HAVE_RUN),
    "not_json": ("unreadable", MAY_HAVE_RUN),
    "invalid_result": ("unreadable", MAY_HAVE_RUN),
    "gateway_error": ("failed", MAY_HAVE_RUN),
    "missing": ("refused", "Unknown tool: missing"),
}


@pytest.fixture
def measured() -> Callable[[Callable[[], Awaitable[object]]], Awaitable[int]]:
    async def peak(action: Callable[[], Awaitable[object]]) -> int:
        tracemalloc.start()
        try:
            await action()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    return peak


@pytest.mark.parametrize("name", HOSTILE)
async def test_an_answer_that_is_no_result_is_an_error_in_bounded_memory(
    name: str,
    start_mcp: StartServer,
    tmp_path: Path,
    measured: Callable[[Callable[[], Awaitable[object]]], Awaitable[int]],
) -> None:
    server = start_mcp(hostile_server, tools=[tool(each) for each in HOSTILE])
    outcome, words = HOSTILE[name]
    limit = 2 if outcome == "timed_out" else 60
    async with running_tools(tmp_path, entry(server, timeoutSeconds=limit)) as tools:
        await tools.until(*HOSTILE)
        results = []

        async def call() -> None:
            results.append(await tools.call(name))

        used = await measured(call)

        assert results[0].is_error
        assert results[0].outcome == outcome
        assert words in text(results[0])
        assert used < MOST_MEMORY_BYTES
        assert tools.metric("agent_tool_calls_total", server="small", tool=name, outcome=outcome) == 1


async def test_an_invalid_tool_does_not_take_away_the_others(start_mcp: StartServer, tmp_path: Path) -> None:
    invalid = [
        tool("no_object", {"type": "string"}),
        tool("no_schema", "none"),
        tool("wrong_schema", {"type": "object", "properties": {"a": {"type": "strange"}}}),
        tool("far_reference", {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1/schema"}}}),
        tool("strange property", {"type": "object", "properties": {"a b": {}}}),
        tool("large", {"type": "object", "description": "x" * 100_000}),
        {"inputSchema": OBJECT},
        "no tool",
    ]
    union = {"type": "object", "anyOf": [{"required": ["a"]}], "properties": {"a": {"type": "string"}}}
    server = start_mcp(hostile_server, tools=[*invalid, tool("good"), tool("a.b/c"), tool("union", union)])
    async with running_tools(tmp_path, entry(server)) as tools:
        listed = await tools.until("good", "a_b_c", "union")

        assert "anyOf" not in next(each for each in listed if each.name == "union").input_schema


async def test_a_tool_that_is_listed_twice_is_offered_once(start_mcp: StartServer, tmp_path: Path) -> None:
    second = {**tool("same"), "description": "another one"}
    server = start_mcp(hostile_server, tools=[tool("same"), second, tool("x.y"), tool("x_y")])
    async with running_tools(tmp_path, entry(server)) as tools:
        await tools.until_listed("same")
        listed = await tools.box.tools()

    names = [each.name for each in listed]
    assert [each.description for each in listed if each.name == "same"] == ["same"]
    assert len(names) == len(set(names)) == 3
    assert {each.original for each in listed} == {"same", "x.y", "x_y"}


async def test_a_server_cannot_take_over_a_tool_of_another(start_mcp: StartServer, tmp_path: Path) -> None:
    good, evil = start_mcp(label="good"), start_mcp(hostile_server, tools=[tool("who"), tool("good__who")])
    entries = [entry(good, "good", allow=["who"]), entry(evil, "evil"), {"name": "web", "builtin": "web_search"}]
    async with running_tools(tmp_path, *entries) as tools:
        await tools.until("good__who", "evil__who", "evil__good__who")

        assert text(await tools.call("good__who")) == "good"


async def test_of_500_tools_a_bounded_number_is_offered(
    start_mcp: StartServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = start_mcp(hostile_server, many=500)
    async with running_tools(tmp_path, entry(server)) as tools:
        await tools.until_listed("tool_0000")

        assert await tools.names() == [f"tool_{number:04d}" for number in range(MOST_TOOLS)]
    assert "Some tools of a server are not offered" in capsys.readouterr().out


async def test_a_hundred_calls_at_once_are_all_answered(start_mcp: StartServer, tmp_path: Path) -> None:
    async with running_tools(tmp_path, entry(start_mcp())) as tools:
        await tools.until(*OWN)
        results = await asyncio.gather(*(tools.call("add", a=number, b=0) for number in range(100)))

    assert [text(each) for each in results] == [str(number) for number in range(100)]


async def test_closing_does_not_wait_for_calls(start_mcp: StartServer, tmp_path: Path) -> None:
    server = start_mcp()
    async with asyncio.timeout(30):
        async with running_tools(tmp_path, entry(server)) as tools:
            await tools.until(*OWN)
            call = asyncio.create_task(tools.call("slow", duration=600, label="open"))
            await eventually_recorded(server, "started")
        result = await call

    assert MAY_HAVE_RUN in text(result)
