"""Tools of MCP servers: their lists, names and results, in both revisions and with published servers."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from support.mcp_servers import StartServer, eventually_recorded, everything, memory
from support.toolbox import entry, running_tools, text

# The revision of 2026-07-28 has no sessions; that of 2025-11-25 has them unless the server is stateless.
KINDS = {
    "2026-07-28": {},
    "2026-07-28 in JSON": {"json": True},
    "2025-11-25 with sessions": {"legacy": True},
    "2025-11-25 with sessions in JSON": {"legacy": True, "json": True},
    "2025-11-25 stateless": {"legacy": True, "stateless": True},
}
OWN = ("add", "fail", "grow", "headers", "picture", "shrink", "slow", "text", "total", "who")


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS.keys())
async def test_tools_of_a_server_are_listed_and_called(
    options: dict[str, Any], start_mcp: StartServer, tmp_path: Path
) -> None:
    async with running_tools(tmp_path, entry(start_mcp(**options))) as tools:
        listed = await tools.until(*OWN)
        answers = await asyncio.gather(*(tools.call("add", a=number, b=1) for number in range(20)))
        failed = await tools.call("fail")
        structured = await tools.call("total", numbers=[1, 2])

        assert [tool.name for tool in listed] == sorted(OWN)
        add = next(tool for tool in listed if tool.name == "add")
        assert add.description.startswith("Add two numbers.")
        assert add.input_schema["required"] == ["a", "b"]
        assert [text(answer) for answer in answers] == [str(number + 1) for number in range(20)]
        assert failed.is_error
        assert failed.outcome == "error"
        assert '"total":3' in text(structured).replace(" ", "").replace("\n", "")
        assert tools.metric("agent_tool_calls_total", server="small", tool="add", outcome="ok") == 20
        assert tools.metric("agent_tool_calls_total", server="small", tool="fail", outcome="error") == 1
        assert tools.metric("agent_tool_server_up", server="small") == 1
        assert tools.metric("agent_tool_call_duration_seconds_count", server="small") == 22


async def test_results_have_text_images_and_documents(start_mcp: StartServer, tmp_path: Path) -> None:
    async with running_tools(tmp_path, entry(start_mcp())) as tools:
        await tools.until(*OWN)
        result = await tools.call("picture")

    kinds = [(block["type"], block.get("source", {}).get("media_type")) for block in result.content]
    assert kinds == [
        ("text", None),
        ("image", "image/png"),
        ("text", None),
        ("text", None),
        ("document", "application/pdf"),
    ]
    assert "[image (image/tiff" in text(result)
    assert "[resource file:///notes.txt]\nnotes" in text(result)


async def test_a_text_beyond_the_limit_of_a_result_is_cut_with_a_note(start_mcp: StartServer, tmp_path: Path) -> None:
    async with running_tools(tmp_path, entry(start_mcp(), maxResultBytes=1024)) as tools:
        await tools.until(*OWN)
        result = await tools.call("text", characters=3000)

    assert result.content[0]["text"] == "x" * 1024
    assert text(result).endswith("[text cut: the limit of a result is 1024 bytes]")
    assert not result.is_error


async def test_only_tools_that_allow_names_can_be_called(start_mcp: StartServer, tmp_path: Path) -> None:
    async with running_tools(tmp_path, entry(start_mcp(), allow=["a*", "wh?"])) as tools:
        await tools.until("add", "who")
        result = await tools.call("text", characters=1)

    assert result.outcome == "unknown_tool"


async def test_tools_of_two_servers_with_the_same_name_get_the_name_of_their_server(
    start_mcp: StartServer, tmp_path: Path
) -> None:
    first, second = start_mcp(label="first"), start_mcp(label="second")
    entries = [entry(first, "one", allow=["who", "add"]), entry(second, "two", allow=["who"])]
    async with running_tools(tmp_path, *entries) as tools:
        await tools.until("add", "one__who", "two__who")

        assert text(await tools.call("one__who")) == "first"
        assert text(await tools.call("two__who")) == "second"
        assert (await tools.call("who")).outcome == "unknown_tool"


@pytest.mark.parametrize("legacy", [False, True], ids=["2026-07-28", "2025-11-25"])
async def test_a_tool_that_a_server_adds_can_be_called_soon(
    legacy: bool, start_mcp: StartServer, tmp_path: Path
) -> None:
    async with running_tools(tmp_path, entry(start_mcp(legacy=legacy))) as tools:
        await tools.until(*OWN)
        before = tools.box.states()[0].about
        await tools.call("grow", name="grown")
        await tools.until(*OWN, "grown")

        assert tools.box.states()[0].about != before
        assert text(await tools.call("grown")) == "grown"


async def test_everything_of_the_reference_server_works(start_mcp: StartServer, tmp_path: Path) -> None:
    async with running_tools(tmp_path, entry(start_mcp(everything), "everything")) as tools:
        await tools.until_listed("echo")
        image = await tools.call("get-tiny-image")

        assert text(await tools.call("echo", message="hello")) == "Echo: hello"
        assert "5" in text(await tools.call("get-sum", a=2, b=3))
        assert [block["type"] for block in image.content if block["type"] != "text"] == ["image"]


async def test_the_memory_server_remembers(start_mcp: StartServer, tmp_path: Path) -> None:
    async with running_tools(tmp_path, entry(start_mcp(memory), "memory")) as tools:
        await tools.until_listed("create_entities")
        entity = {"name": "Ada", "entityType": "person", "observations": ["wrote the first program"]}
        created = await tools.call("create_entities", entities=[entity])
        found = await tools.call("search_nodes", query="Ada")

    assert not created.is_error
    assert "wrote the first program" in text(found)


async def test_a_cancelled_call_ends_at_the_server(start_mcp: StartServer, tmp_path: Path) -> None:
    server = start_mcp()
    async with running_tools(tmp_path, entry(server)) as tools:
        await tools.until(*OWN)
        call = asyncio.create_task(tools.call("slow", duration=600, label="cancelled"))
        await eventually_recorded(server, "started")
        call.cancel()
        await asyncio.wait([call])
        await eventually_recorded(server, "cancelled")

        assert call.cancelled()
        assert tools.metric("agent_tool_calls_total", server="small", tool="slow", outcome="cancelled") == 1
        assert text(await tools.call("add", a=1, b=1)) == "2"


@pytest.mark.parametrize("legacy", [False, True])
async def test_a_call_may_last_longer_than_a_list_may_take(
    legacy: bool, start_mcp: StartServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_service.tooling.session._LIST_SECONDS", 1.0)
    async with running_tools(tmp_path, entry(start_mcp(legacy=legacy))) as tools:
        await tools.until(*OWN)
        result = await tools.call("slow", duration=1.5, label="long")

    assert (text(result), result.outcome) == ("slept long", "ok")
