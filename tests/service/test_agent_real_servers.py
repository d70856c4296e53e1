"""Published MCP servers, and servers on the official SDK in each revision, as an agent's model uses them."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from stand_in import StandIn, asking
from support.agent import MakeClient
from support.eventually import eventually_async
from support.mcp_servers import McpServer, StartServer, everything, memory
from support.tool_agent import Block, agent_with, calls_of, chat, questions, results, texts
from support.toolbox import entry

# The revision of 2026-07-28 has no sessions; that of 2025-11-25 has them unless the server is stateless.
KINDS = {
    "2026-07-28": {},
    "2026-07-28 in JSON": {"json": True},
    "2025-11-25 with sessions": {"legacy": True},
    "2025-11-25 with sessions in JSON": {"legacy": True, "json": True},
    "2025-11-25 stateless": {"legacy": True, "stateless": True},
}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[McpServer]:
    """Run the reference server, which has a tool for each part of the protocol."""
    server = everything(tmp_path_factory.mktemp("everything")).start()
    yield server
    server.kill()


@pytest.fixture
async def agent(make_client: MakeClient, reference: McpServer, tmp_path: Path) -> httpx.AsyncClient:
    return await agent_with(make_client, tmp_path, entry(reference, "everything"))


def call(name: str, **given: Any) -> dict[str, Any]:
    return {"name": name, "input": given}


def kinds(result: Block) -> list[tuple[str, str | None]]:
    """Return type and media type of each part of a result."""
    return [(part["type"], part.get("source", {}).get("media_type")) for part in result["content"]]


async def test_results_of_the_reference_server_reach_the_model(agent: httpx.AsyncClient, stand_in: StandIn) -> None:
    calls = [
        call("echo", message="hello"),
        call("get-sum", a=2, b=3),
        call("get-tiny-image"),
        call("get-annotated-message", messageType="error", includeImage=True),
        call("get-structured-content", location="New York"),
        call("get-resource-links", count=2),
        call("get-resource-reference", resourceType="Text", resourceId=1),
        call("get-resource-reference", resourceType="Blob", resourceId=2),
        call("get-sum", a="two", b=3),
    ]
    answer = await chat(agent, asking("all", calls=[calls]))
    found = results(questions(stand_in)[1])
    echo, total, image, annotated, structured, links, notes, blob, invalid = texts(found)

    assert (echo, "5" in total) == ("Echo: hello", True)
    assert ("image", "image/png") in kinds(found[2])
    assert image
    assert ("image", "image/png") in kinds(found[3])
    assert annotated
    assert '"temperature"' in structured
    assert "[link to the resource demo://resource/" in links
    assert "[resource demo://resource/dynamic/text/1]" in notes
    # A resource of a type that models do not take.
    assert "[resource demo://resource/dynamic/blob/2" in blob
    assert "left out" in blob
    assert invalid
    assert [step["is_error"] for step in answer["steps"]] == [False] * 8 + [True]
    again = await chat(agent, "and now", answer["conversation_id"])
    assert again["response"].startswith("Stand-in heard")


async def test_a_long_call_among_log_messages_has_its_result(agent: httpx.AsyncClient, stand_in: StandIn) -> None:
    first, second = [call("toggle-simulated-logging")], [call("trigger-long-running-operation", duration=1, steps=20)]
    answer = await chat(agent, asking("wait", calls=[first, second]))

    assert [step["is_error"] for step in answer["steps"]] == [False, False]
    assert "Long running operation completed" in texts(results(questions(stand_in)[2]))[0]


async def test_tools_that_need_more_of_a_client_are_not_offered(agent: httpx.AsyncClient, stand_in: StandIn) -> None:
    await chat(agent, "hello")
    names = {tool["name"] for tool in questions(stand_in)[0]["tools"]}

    assert {"echo", "trigger-long-running-operation"} <= names
    assert not {name for name in names if "sampling" in name or "elicitation" in name or "roots" in name}


async def test_the_memory_server_remembers_across_turns_and_its_own_restart(
    make_client: MakeClient, start_mcp: StartServer, stand_in: StandIn, tmp_path: Path
) -> None:
    server = start_mcp(memory)
    agent = await agent_with(make_client, tmp_path, entry(server, "memory", allow=["create_entities", "search_nodes"]))
    entity = {"name": "Ada", "entityType": "person", "observations": ["wrote the first program"]}
    first = await chat(agent, asking("remember", calls=[[call("create_entities", entities=[entity])]]))
    await asyncio.to_thread(server.restart)
    await chat(agent, asking("recall", calls=[[call("search_nodes", query="Ada")]]), first["conversation_id"])

    assert {tool["name"] for tool in questions(stand_in)[0]["tools"]} == {"create_entities", "search_nodes"}
    assert "wrote the first program" in texts(results(questions(stand_in)[-1]))[0]


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS.keys())
async def test_servers_on_the_official_sdk_work_in_each_revision(
    options: dict[str, Any], make_client: MakeClient, start_mcp: StartServer, stand_in: StandIn, tmp_path: Path
) -> None:
    agent = await agent_with(make_client, tmp_path, entry(start_mcp(**options)))
    calls = [call("add", a=2, b=3), call("total", numbers=[1, 2]), call("fail"), call("picture")]
    answer = await chat(agent, asking("all", calls=[calls]))
    found = results(questions(stand_in)[1])

    assert [step["is_error"] for step in answer["steps"]] == [False, False, True, False]
    assert texts(found)[0] == "5"
    assert kinds(found[3]) == [
        ("text", None),
        ("image", "image/png"),
        ("text", None),
        ("text", None),
        ("document", "application/pdf"),
    ]
    assert "[resource file:///notes.txt]" in texts(found)[3]
    again = await chat(agent, asking("more", calls=[calls_of("add", a=1, b=1)]), answer["conversation_id"])
    assert [step["content"] for step in again["steps"]] == ["2"]


@pytest.mark.parametrize("legacy", [False, True], ids=["2026-07-28", "2025-11-25"])
async def test_the_model_is_offered_a_tool_that_its_server_adds(
    legacy: bool, make_client: MakeClient, start_mcp: StartServer, stand_in: StandIn, tmp_path: Path
) -> None:
    agent = await agent_with(make_client, tmp_path, entry(start_mcp(legacy=legacy)))
    first = await chat(agent, asking("grow", calls=[calls_of("grow", name="grown")]))

    async def called() -> bool:
        answer = await chat(agent, asking("use", calls=[calls_of("grown")]), first["conversation_id"])
        return bool(answer["steps"][0]["content"] == "grown")

    await eventually_async(called, "the new tool is called")
    assert "grown" in {tool["name"] for tool in questions(stand_in)[-1]["tools"]}
