"""Faults of tools as the agent's users and its model see them: every turn has an answer, and conversations go on."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_service.tooling.listing import MOST_TOOLS
from stand_in import StandIn, asking
from support.agent import MakeClient
from support.eventually import eventually_async
from support.mcp_servers import McpServer, StartServer, eventually_recorded, hostile_server, sdk_server
from support.tool_agent import agent_with, calls_of, chat, questions, results, texts
from support.toolbox import entry, write_secret

SECRET = "a-secret-of-the-tests-0001"
KINDS = {"2026-07-28": {}, "2025-11-25 with sessions": {"legacy": True}}
SLOW = calls_of("slow", duration=60, label="one")
ADD = calls_of("add", a=2, b=3)
MAY_HAVE_RUN = "The call may have run"
DID_NOT_RUN = "The call did not run"


def tool(name: str) -> dict[str, Any]:
    return {"name": name, "inputSchema": {"type": "object"}}


async def goes_on(agent: httpx.AsyncClient, answer: dict[str, Any]) -> None:
    """Assert that the conversation of an answer can be continued."""
    assert (await chat(agent, "and now", answer["conversation_id"]))["response"].startswith("Stand-in heard")


async def adds_again(agent: httpx.AsyncClient, answer: dict[str, Any]) -> None:
    """Wait until a turn of the conversation of an answer can add two numbers."""

    async def added() -> bool:
        found = await chat(agent, asking("sum", calls=[ADD]), answer["conversation_id"])
        # While the server is away for longer than a restart takes, its tools are not offered.
        return [step["content"] for step in found.get("steps", [])] == ["5"]

    await eventually_async(added, "a turn adds two numbers")


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS.keys())
async def test_a_server_that_restarts_between_turns_answers_the_next_one(
    options: dict[str, Any], make_client: MakeClient, start_mcp: StartServer, tmp_path: Path
) -> None:
    server = start_mcp(**options)
    agent = await agent_with(make_client, tmp_path, entry(server))
    before = await chat(agent, asking("sum", calls=[ADD]))
    await asyncio.to_thread(server.restart)

    await adds_again(agent, before)
    assert len(server.recorded()) == 2


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS.keys())
async def test_the_model_learns_that_a_call_may_have_run_when_its_server_restarts(
    options: dict[str, Any], make_client: MakeClient, start_mcp: StartServer, stand_in: StandIn, tmp_path: Path
) -> None:
    server = start_mcp(**options)
    agent = await agent_with(make_client, tmp_path, entry(server))
    turn = asyncio.create_task(chat(agent, asking("wait", calls=[SLOW])))
    await eventually_recorded(server, "started")
    await asyncio.to_thread(server.restart)
    answer = await turn

    assert MAY_HAVE_RUN in texts(results(questions(stand_in)[1]))[0]
    assert [step["is_error"] for step in answer["steps"]] == [True]
    await adds_again(agent, answer)
    assert [each.get("event", "added") for each in server.recorded()] == ["started", "added"]


async def test_an_agent_answers_without_a_server_that_is_down_and_uses_it_when_it_comes(
    make_client: MakeClient, stand_in: StandIn, tmp_path: Path
) -> None:
    server = sdk_server(tmp_path)
    agent = await agent_with(make_client, tmp_path, entry(server))
    without = await chat(agent, "hello")
    assert "tools" not in questions(stand_in)[0]
    try:
        await asyncio.to_thread(server.start)
        await adds_again(agent, without)
    finally:
        server.kill()


async def test_a_turn_is_refused_while_a_server_is_down_that_the_agent_needs(
    make_client: MakeClient, stand_in: StandIn, tmp_path: Path
) -> None:
    agent = await agent_with(make_client, tmp_path, entry(sdk_server(tmp_path), onUnavailable="fail"))
    refused = await agent.post("/chat", json={"message": "hello"})

    assert refused.status_code == 503
    assert "a tool that this agent needs is unavailable" in refused.text
    assert stand_in.requests() == []


HOSTILE = {
    "hundred_megabytes": MAY_HAVE_RUN,
    "endless_event": MAY_HAVE_RUN,
    "endless_notifications": MAY_HAVE_RUN,
    "never": MAY_HAVE_RUN,
    "broken": MAY_HAVE_RUN,
    "not_json": MAY_HAVE_RUN,
    "invalid_result": MAY_HAVE_RUN,
    "gateway_error": MAY_HAVE_RUN,
    "missing": "Unknown tool: missing",
}


async def test_the_model_gets_an_error_for_each_result_that_cannot_be_used(
    make_client: MakeClient, start_mcp: StartServer, stand_in: StandIn, tmp_path: Path
) -> None:
    server = start_mcp(hostile_server, tools=[tool(name) for name in HOSTILE])
    endless = ["endless_notifications", "never"]
    ending = [name for name in HOSTILE if name not in endless]
    entries = entry(server, "endless", allow=endless, timeoutSeconds=2), entry(server, "ending", allow=ending)
    agent = await agent_with(make_client, tmp_path, *entries)
    answer = await chat(agent, asking("try", calls=[calls_of(*HOSTILE)]))
    found = texts(results(questions(stand_in)[1]))

    assert {name: words in text for (name, words), text in zip(HOSTILE.items(), found, strict=True)} == dict.fromkeys(
        HOSTILE, True
    )
    assert all(step["is_error"] for step in answer["steps"])
    await goes_on(agent, answer)


async def test_messages_of_a_server_before_a_result_do_not_hide_it(
    make_client: MakeClient, start_mcp: StartServer, tmp_path: Path
) -> None:
    agent = await agent_with(make_client, tmp_path, entry(start_mcp(hostile_server, tools=[tool("talkative")])))
    answer = await chat(agent, asking("try", calls=[calls_of("talkative")]))

    assert [step["content"] for step in answer["steps"]] == ["done"]


async def test_the_model_gets_a_bounded_number_of_tools_with_different_names_and_valid_schemas(
    make_client: MakeClient, start_mcp: StartServer, stand_in: StandIn, tmp_path: Path
) -> None:
    invalid = [{"name": "a_wrong_schema", "inputSchema": {"type": "object", "properties": {"a": {"type": "strange"}}}}]
    tools = [*invalid, tool("a_tool"), tool("a_tool")]
    server = start_mcp(hostile_server, tools=tools, many=500)
    agent = await agent_with(make_client, tmp_path, entry(server))
    await chat(agent, "hello")
    names = [each["name"] for each in questions(stand_in)[0]["tools"]]

    assert len(names) == len(set(names)) == MOST_TOOLS
    assert "a_wrong_schema" not in names
    assert {"a_tool", "tool_0000"} <= set(names)


class TestTokens:
    """Tokens of the OAuth grant that the server stops accepting while a conversation goes on."""

    @pytest.fixture(params=list(KINDS.values()), ids=list(KINDS))
    def server(self, request: pytest.FixtureRequest, start_mcp: StartServer) -> McpServer:
        return start_mcp(secret=SECRET, **request.param)

    @pytest.fixture
    async def agent(self, make_client: MakeClient, server: McpServer, tmp_path: Path) -> httpx.AsyncClient:
        write_secret(tmp_path, "oauth", "secret", SECRET)
        grant = {
            "tokenUrl": server.url.replace("/mcp", "/token"),
            "clientId": "portside",
            "clientSecretKeyRef": {"name": "oauth", "key": "secret"},
        }
        definition = entry(server, mcp={"auth": {"clientCredentials": grant}})
        return await agent_with(make_client, tmp_path, definition, tool_secrets_dir=tmp_path / "secrets")

    async def test_a_token_that_expires_within_a_turn_is_renewed_once_and_each_call_runs_once(
        self, agent: httpx.AsyncClient, server: McpServer
    ) -> None:
        first = await chat(agent, asking("sum", calls=[ADD]))
        tokens = len(recorded(server, event="token"))
        many = [{"name": "add", "input": {"a": number, "b": 0}} for number in range(10)]
        turn = chat(agent, asking("wait", calls=[calls_of("slow", duration=5, label="x"), many]), conversation(first))
        running = asyncio.create_task(turn)
        await eventually_recorded(server, "started")
        await ended(server, "expire")
        answer = await running

        assert [step["content"] for step in answer["steps"]] == ["slept x", *map(str, range(10))]
        assert sorted(each["a"] for each in recorded(server, tool="add")) == [0, 1, 2, 2, *range(3, 10)]
        assert len(recorded(server, event="token")) == tokens + 1
        await goes_on(agent, answer)

    async def test_the_model_learns_that_a_call_did_not_run_when_the_new_token_is_refused_too(
        self, agent: httpx.AsyncClient, server: McpServer, stand_in: StandIn
    ) -> None:
        first = await chat(agent, asking("sum", calls=[ADD]))
        await ended(server, "revoke")
        tokens = len(recorded(server, event="token"))
        answer = await chat(agent, asking("sum", calls=[ADD]), conversation(first))

        (text,) = texts(results(questions(stand_in)[-1]))
        assert "refused the credentials (status 401)" in text
        assert DID_NOT_RUN in text
        assert len(recorded(server, tool="add")) == 1
        assert len(recorded(server, event="token")) - tokens <= 2
        await ended(server, "expire")
        again = await chat(agent, asking("sum", calls=[ADD]), conversation(answer))
        assert [step["content"] for step in again["steps"]] == ["5"]

    async def test_the_model_learns_that_a_call_did_not_run_when_there_is_no_new_token(
        self, agent: httpx.AsyncClient, server: McpServer, stand_in: StandIn, tmp_path: Path
    ) -> None:
        first = await chat(agent, asking("sum", calls=[ADD]))
        write_secret(tmp_path, "oauth", "secret", "a-wrong-secret-of-the-tests")
        answer = await chat(agent, asking("sum", calls=[ADD]), conversation(first))

        (text,) = texts(results(questions(stand_in)[-1]))
        assert "The credentials for the tool's server are not available. The call did not run." in text
        assert SECRET not in text
        assert "wrong-secret" not in text
        assert len(recorded(server, tool="add")) == 1
        await goes_on(agent, answer)


async def test_a_task_learns_that_it_has_no_token_of_its_caller(
    make_client: MakeClient, start_mcp: StartServer, stand_in: StandIn, tmp_path: Path
) -> None:
    server = start_mcp()
    definition = entry(server, mcp={"forwardCaller": True})
    agent = await agent_with(make_client, tmp_path, definition, api_runs_tasks=True)
    body = {"message": asking("sum", calls=[ADD])}
    accepted = (await agent.post("/tasks", json=body, headers={"Authorization": "Bearer token-of-ada"})).json()

    async def completed() -> dict[str, Any] | None:
        task: dict[str, Any] = (await agent.get(accepted["status_url"])).json()
        return task if task["status"] in {"completed", "failed"} else None

    task = await eventually_async(completed, "the task ends")
    (step,) = task["result"]["steps"]
    assert step["is_error"] is True
    for words in ("the user's own credential", "background task", DID_NOT_RUN):
        assert words in step["content"]
    assert texts(results(questions(stand_in)[1])) == [step["content"]]
    assert server.recorded() == []


def conversation(answer: dict[str, Any]) -> str:
    return str(answer["conversation_id"])


def recorded(server: McpServer, **fields: str) -> list[dict[str, Any]]:
    """Return what the server recorded with these fields."""
    return [each for each in server.recorded() if fields.items() <= each.items()]


async def ended(server: McpServer, how: str) -> None:
    """End all tokens at the server: `expire` those that it issued, `revoke` also later ones."""
    async with httpx.AsyncClient() as client:
        (await client.post(server.url.replace("/mcp", f"/{how}"))).raise_for_status()
