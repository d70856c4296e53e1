"""The echo provider with the tools of a real server: it calls the one that a message asks for, without a key."""

from pathlib import Path

import httpx
import pytest

from support.agent import MakeClient
from support.eventually import eventually_async
from support.mcp_servers import McpServer, StartServer
from support.tool_agent import agent_with, chat, stream
from support.toolbox import entry

ECHO = {"model_provider": "echo", "anthropic_api_key": None}


@pytest.fixture
def server(start_mcp: StartServer) -> McpServer:
    return start_mcp()


@pytest.fixture
async def agent(make_client: MakeClient, server: McpServer, tmp_path: Path) -> httpx.AsyncClient:
    return await agent_with(make_client, tmp_path, entry(server), **ECHO)


async def test_a_message_that_asks_for_a_tool_is_answered_with_its_result(agent: httpx.AsyncClient) -> None:
    answer = await chat(agent, "Add 20 and 22, please.")
    [step] = answer["steps"]

    assert answer["response"] == "add answered: 42"
    assert step == {
        "id": step["id"],
        "name": "add",
        "input": {"a": 20, "b": 22},
        "is_error": False,
        "content": "42",
    }
    assert answer["tokens_used"] > 0
    assert "stop_reason" not in answer


async def test_a_stream_has_the_call_its_result_and_the_answer(agent: httpx.AsyncClient) -> None:
    events = await stream(agent, "Who are you?")

    assert [event["type"] for event in events if event["type"] != "text"] == ["tool_use", "tool_result", "done"]
    assert "".join(event["content"] for event in events if event["type"] == "text") == "who answered: small"


@pytest.mark.parametrize("message", ["hello there", "Add it up.", "Is anybody in that pod?"])
async def test_other_messages_are_repeated_as_without_tools(
    agent: httpx.AsyncClient, make_client: MakeClient, server: McpServer, message: str
) -> None:
    plain = await make_client(**ECHO)

    answer, expected = await chat(agent, message), await chat(plain, message)
    assert answer["response"] == expected["response"] == f"You said: {message}"
    assert "steps" not in answer
    assert server.recorded() == []


async def test_a_tool_that_fails_is_reported(agent: httpx.AsyncClient) -> None:
    answer = await chat(agent, "Fail!")

    assert answer["response"] == "fail failed: Error executing tool fail"
    assert [step["is_error"] for step in answer["steps"]] == [True]


async def test_content_that_is_no_text_is_named(agent: httpx.AsyncClient) -> None:
    answer = await chat(agent, "Show the picture.")

    assert answer["response"].startswith("picture answered: A pixel:\n(image)\n")


async def test_a_long_result_arrives_whole_and_soon(agent: httpx.AsyncClient) -> None:
    answer = await chat(agent, "Show the text of 200000")

    assert answer["response"] == "text answered: " + "x" * 200_000


async def test_each_message_of_a_conversation_is_answered_by_itself(agent: httpx.AsyncClient) -> None:
    first = await chat(agent, "Add 1 and 2")
    second = await chat(agent, "thanks", first["conversation_id"])
    third = await chat(agent, "Add 3 and 4", first["conversation_id"])

    assert [each["response"] for each in (first, second, third)] == [
        "add answered: 3",
        "You said: thanks",
        "add answered: 7",
    ]


async def test_a_turn_that_may_call_no_tool_repeats_the_message(
    make_client: MakeClient, server: McpServer, tmp_path: Path
) -> None:
    agent = await agent_with(make_client, tmp_path, entry(server), **ECHO, max_steps=1)

    assert (await chat(agent, "Add 1 and 2"))["response"] == "You said: Add 1 and 2"
    assert server.recorded() == []


async def test_a_tool_that_is_not_allowed_is_not_called(
    make_client: MakeClient, server: McpServer, tmp_path: Path
) -> None:
    agent = await agent_with(make_client, tmp_path, entry(server, allow=["who"]), **ECHO)

    assert (await chat(agent, "Add 1 and 2"))["response"] == "You said: Add 1 and 2"
    assert (await chat(agent, "who?"))["response"] == "who answered: small"
    assert server.recorded() == []


async def test_while_its_server_is_down_the_message_is_repeated(agent: httpx.AsyncClient, server: McpServer) -> None:
    server.kill()
    answer = await chat(agent, "Add 1 and 2")
    # Whether the agent has noticed yet decides between a call that fails and none.
    assert answer["response"].startswith(("add failed: ", "You said: Add 1 and 2"))

    server.start()

    async def answered() -> bool:
        return bool((await chat(agent, "Add 1 and 2"))["response"] == "add answered: 3")

    await eventually_async(answered, "the tool is called again")
