"""The tool loop of the built-in agent, with a server on the official SDK: steps, bounds, errors and stop reasons."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from stand_in import StandIn, asking
from support.agent import MakeClient, StartService
from support.eventually import eventually_async
from support.mcp_servers import McpServer, StartServer, eventually_recorded
from support.tool_agent import agent_with, blocks, calls_of, chat, process_settings, questions, results, stream, texts
from support.toolbox import entry

CLIENT_KEY = "client-key-of-sixteen"
ADD = calls_of("add", a=2, b=3)


@pytest.fixture
def server(start_mcp: StartServer) -> McpServer:
    return start_mcp()


@pytest.fixture
async def agent(make_client: MakeClient, server: McpServer, tmp_path: Path) -> httpx.AsyncClient:
    return await agent_with(make_client, tmp_path, entry(server))


async def test_the_model_receives_the_tools_and_the_result_of_its_call(
    agent: httpx.AsyncClient, stand_in: StandIn
) -> None:
    answer = await chat(agent, asking("sum", calls=[ADD]))
    first, second = questions(stand_in)

    assert {"add", "who", "slow"} <= {tool["name"] for tool in first["tools"]}
    assert set(first["tools"][0]) - {"cache_control"} == {"name", "description", "input_schema"}
    user, assistant, result = second["messages"]
    assert [block["type"] for block in blocks(assistant)] == ["text", "tool_use"]
    use = blocks(assistant)[1]
    assert use["input"] == {"a": 2, "b": 3}
    assert blocks(result) == [
        {"type": "tool_result", "tool_use_id": use["id"], "content": [{"type": "text", "text": "5"}]}
    ]
    assert answer["steps"] == [
        {"id": use["id"], "name": "add", "input": {"a": 2, "b": 3}, "is_error": False, "content": "5"}
    ]
    assert answer["response"].startswith("Calling add.\n\nStand-in heard")
    assert answer["response"].endswith("Results: 5.")
    assert "stop_reason" not in answer
    assert first["tools"] == second["tools"]
    assert "tool_choice" not in second
    assert user["role"] == "user"


async def test_a_stream_has_the_calls_and_their_results_between_the_texts(
    agent: httpx.AsyncClient, stand_in: StandIn
) -> None:
    events = await stream(agent, asking("sum", calls=[ADD, calls_of("fail")]))
    kinds = [event["type"] for event in events if event["type"] != "text"]

    assert kinds == ["tool_use", "tool_result", "tool_use", "tool_result", "done"]
    use, result, failing, failure = (event for event in events if event["type"].startswith("tool_"))
    assert use == {"type": "tool_use", "id": use["id"], "name": "add", "input": {"a": 2, "b": 3}}
    assert result == {"type": "tool_result", "id": use["id"], "is_error": False, "content": "5"}
    assert failure["id"] == failing["id"]
    assert failure["is_error"] is True
    assert failure["content"] == "Error executing tool fail"


async def test_calls_of_one_step_run_side_by_side_and_their_results_keep_the_order(
    agent: httpx.AsyncClient, stand_in: StandIn, server: McpServer
) -> None:
    durations = [5.0, 0.1, 2.5]
    calls = [{"name": "slow", "input": {"duration": each, "label": str(each)}} for each in durations]
    events = await stream(agent, asking("wait", calls=[calls]))

    assert texts(results(questions(stand_in)[1])) == [f"slept {each}" for each in durations]
    assert [event["content"] for event in events if event["type"] == "tool_result"] == [
        "slept 0.1",
        "slept 2.5",
        "slept 5.0",
    ]
    assert [each["event"] for each in server.recorded()] == ["started"] * 3 + ["finished"] * 3


async def test_a_model_that_makes_a_hundred_calls_at_once_gets_a_result_for_each(
    make_client: MakeClient, server: McpServer, stand_in: StandIn, tmp_path: Path
) -> None:
    agent = await agent_with(make_client, tmp_path, entry(server), max_tool_calls=60)
    calls = [{"name": "add", "input": {"a": number, "b": 0}} for number in range(100)]
    stand_in.behave(calls=[calls], endless=True)
    answer = await chat(agent, "sums")

    first, last = questions(stand_in)[0], stand_in.requests()[-1]
    assert first["messages"][-1]["content"] == "sums"
    assert len(stand_in.requests()) == 2
    assert [step["content"] for step in answer["steps"][:60]] == [str(number) for number in range(60)]
    assert {step["content"] for step in answer["steps"][60:]} == {"This turn has reached its limit of 60 tool calls."}
    assert len(server.recorded()) == 60
    assert answer["stop_reason"] == "max_tool_calls"
    assert last["status"] == 200


async def test_a_missing_tool_and_an_invalid_input_are_errors_for_the_model(
    agent: httpx.AsyncClient, stand_in: StandIn, server: McpServer
) -> None:
    calls = [
        {"name": "remove_everything", "input": {}},
        {"name": "add", "raw": '{"a": 2, "b"'},
        {"name": "add", "raw": "[1, 2]"},
        {"name": "add", "input": {"a": "two"}},
        {"name": "add", "input": {"a": 1, "b": 1}},
    ]
    answer = await chat(agent, asking("try", calls=[calls]))
    found = results(questions(stand_in)[1])

    assert [block.get("is_error", False) for block in found] == [True, True, True, True, False]
    assert "There is no tool of this name. The tools are: add, " in texts(found)[0]
    assert texts(found)[1] == texts(found)[2] == "The input of this call is not a JSON object. The call did not run."
    assert texts(found)[4] == "2"
    assert len(server.recorded()) == 1
    assert [step["is_error"] for step in answer["steps"]] == [True, True, True, True, False]


async def test_a_model_that_calls_tools_for_ever_is_asked_for_an_answer_at_last(
    make_client: MakeClient, server: McpServer, stand_in: StandIn, tmp_path: Path
) -> None:
    agent = await agent_with(make_client, tmp_path, entry(server), max_steps=4)
    answer = await chat(agent, asking("loop", calls=[ADD], endless=True))
    asked = questions(stand_in)

    assert len(asked) == 4
    assert [question.get("tool_choice") for question in asked] == [None, None, None, {"type": "none"}]
    assert answer["stop_reason"] == "max_steps"
    assert answer["response"].endswith("Results: 5.")
    assert len(answer["steps"]) == 3


async def test_a_model_that_calls_tools_when_it_may_not_ends_the_turn(
    make_client: MakeClient, server: McpServer, stand_in: StandIn, tmp_path: Path
) -> None:
    agent = await agent_with(make_client, tmp_path, entry(server), max_steps=2)
    answer = await chat(agent, asking("loop", calls=[ADD], endless=True, stubborn=True))

    assert answer["stop_reason"] == "max_steps"
    assert len(answer["steps"]) == 1
    assert len(stand_in.requests()) == 2
    again = await chat(agent, "go on", answer["conversation_id"])
    assert again["response"].startswith("Stand-in heard")


async def test_thinking_goes_back_unchanged_within_the_turn_and_is_not_stored(
    agent: httpx.AsyncClient, stand_in: StandIn
) -> None:
    answer = await chat(agent, asking("think", thinking=True, redacted=True, calls=[ADD, ADD]))
    assert answer["response"].endswith("Results: 5.")
    third = questions(stand_in)[2]
    for message in (third["messages"][1], third["messages"][3]):
        assert blocks(message)[:2] == [
            {"type": "thinking", "thinking": "Let me think.", "signature": "c2lnbmF0dXJl"},
            {"type": "redacted_thinking", "data": "c2VjcmV0"},
        ]
    await chat(agent, "and now", answer["conversation_id"])
    kinds = [block["type"] for message in questions(stand_in)[-1]["messages"] for block in blocks(message)]
    assert kinds == ["text", *["text", "tool_use", "tool_result"] * 2, "text", "text"]


async def test_a_paused_turn_goes_on(agent: httpx.AsyncClient, stand_in: StandIn) -> None:
    answer = await chat(agent, asking("search", pauses=2, calls=[ADD]))
    asked = questions(stand_in)

    assert len(asked) == 4
    assert [message["role"] for message in asked[2]["messages"]] == ["user", "assistant"]
    assert [block["text"] for block in blocks(asked[2]["messages"][1])] == ["Pause 1. ", "Pause 2. "]
    assert answer["response"].startswith("Pause 1. Pause 2. Calling add.")
    assert "stop_reason" not in answer


async def test_blocks_of_tools_of_the_model_api_go_back_unchanged(
    make_client: MakeClient, server: McpServer, stand_in: StandIn, tmp_path: Path
) -> None:
    agent = await agent_with(make_client, tmp_path, entry(server), {"name": "web", "builtin": "web_search"})
    answer = await chat(agent, asking("search", server_tool=True, pauses=1, calls=[ADD]))
    await chat(agent, "and now", answer["conversation_id"])
    first, second, third, later = questions(stand_in)

    assert any(tool.get("type", "").startswith("web_search_") for tool in first["tools"])
    use, found, *_ = blocks(second["messages"][1])
    assert use == {"type": "server_tool_use", "id": use["id"], "name": "web_search", "input": {"query": "example"}}
    assert found["type"] == "web_search_tool_result"
    assert found["content"][0]["encrypted_content"] == "ZQ=="
    assert [step["name"] for step in answer["steps"]] == ["add"]
    assert blocks(later["messages"][1]) == blocks(third["messages"][1])


@pytest.mark.parametrize("reason", ["max_tokens", "model_context_window_exceeded"])
async def test_a_call_whose_input_was_cut_off_is_not_made(
    agent: httpx.AsyncClient, stand_in: StandIn, server: McpServer, reason: str
) -> None:
    calls = [{"name": "add", "raw": '{"a": 2, "b": '}]
    answer = await chat(agent, asking("cut", calls=[calls], stop=reason))

    assert answer["stop_reason"] == reason
    assert answer["response"] == "Calling add."
    assert "steps" not in answer
    assert server.recorded() == []
    again = await chat(agent, "go on", answer["conversation_id"])
    assert "stop_reason" not in again


async def test_a_model_api_that_fails_after_a_call_ends_the_stream_with_an_error(agent: httpx.AsyncClient) -> None:
    events = await stream(agent, asking("fail", calls=[ADD], error="overloaded_error", after=3))
    assert [event["type"] for event in events if event["type"] != "text"] == ["tool_use", "tool_result", "error"]


async def test_the_tokens_of_all_steps_are_counted(agent: httpx.AsyncClient, stand_in: StandIn) -> None:
    answer = await chat(agent, asking("sum", calls=[ADD, ADD], recount=7))
    metrics = (await agent.get("/metrics")).text

    assert len(stand_in.requests()) == 3
    assert 'agent_tokens_total{direction="input",model="claude-sonnet-5-5"} 21.0' in metrics
    # The stand-in counts a token for each word.
    output = 2 * 2 + len(answer["response"].rpartition("\n\n")[2].split())
    assert answer["tokens_used"] == 21 + output


async def test_a_budget_that_is_used_up_ends_the_turn_after_the_calls_of_the_step(
    make_client: MakeClient, server: McpServer, stand_in: StandIn, tmp_path: Path
) -> None:
    agent = await agent_with(make_client, tmp_path, entry(server), budget_tokens=2)
    answer = await chat(agent, asking("sum", calls=[ADD], endless=True))

    assert answer["stop_reason"] == "budget"
    assert len(stand_in.requests()) == 1
    assert [step["content"] for step in answer["steps"]] == ["5"]
    refused = await agent.post("/chat", json={"message": "more"})
    assert refused.status_code == 429


async def test_a_client_that_leaves_ends_the_calls(
    start_service: StartService, server: McpServer, stand_in: StandIn, tmp_path: Path
) -> None:
    service = start_service(**process_settings(tmp_path, stand_in, entry(server)))
    calls = [{"name": "slow", "input": {"duration": 60, "label": str(number)}} for number in range(3)]
    body = {"message": asking("wait", calls=[calls])}
    asked = httpx.AsyncClient(base_url=service.url, timeout=30)
    async with asked as client, client.stream("POST", "/chat/stream", json=body) as answer:
        assert answer.status_code == 200
        await eventually_recorded(server, "started", 3)
    await eventually_recorded(server, "cancelled", 3)
    assert len(stand_in.requests()) == 1


async def test_a_turn_that_takes_too_long_ends_the_calls(
    make_client: MakeClient, server: McpServer, stand_in: StandIn, tmp_path: Path
) -> None:
    agent = await agent_with(make_client, tmp_path, entry(server), request_timeout_seconds=8)
    calls = calls_of("slow", duration=60, label="one")
    answer = await agent.post("/chat", json={"message": asking("wait", calls=[calls])})

    assert answer.status_code == 504
    await eventually_recorded(server, "cancelled")


async def test_a_task_has_the_steps_in_its_result(make_client: MakeClient, server: McpServer, tmp_path: Path) -> None:
    agent = await agent_with(make_client, tmp_path, entry(server), api_runs_tasks=True)
    accepted = (await agent.post("/tasks", json={"message": asking("sum", calls=[ADD])})).json()

    async def ended() -> dict[str, Any] | None:
        task: dict[str, Any] = (await agent.get(accepted["status_url"])).json()
        return task if task["status"] in {"completed", "failed"} else None

    task = await eventually_async(ended, "the task ends")
    assert task["status"] == "completed"
    assert [(step["name"], step["content"]) for step in task["result"]["steps"]] == [("add", "5")]


async def test_a_request_without_tools_is_the_same_as_ever(make_client: MakeClient, stand_in: StandIn) -> None:
    client = await make_client(system_prompt="Be brief.")
    answer = await chat(client, "hello")
    asked = questions(stand_in)[0]

    assert list(asked) == ["model", "max_tokens", "stream", "messages", "system"]
    assert asked["messages"] == [{"role": "user", "content": "hello"}]
    assert asked["system"] == "Be brief."
    assert "steps" not in answer


async def test_the_callers_own_token_reaches_a_server_that_it_is_forwarded_to(
    make_client: MakeClient, server: McpServer, tmp_path: Path
) -> None:
    definition = entry(server, mcp={"forwardCaller": True}, allow=["headers"])
    agent = await agent_with(make_client, tmp_path, definition)
    body = {"message": asking("show", calls=[calls_of("headers")])}
    with_token = await agent.post("/chat", json=body, headers={"Authorization": "Bearer token-of-ada"})
    without = await agent.post("/chat", json=body)

    # The toolbox removes it from the result, in case a server repeats it.
    assert with_token.json()["steps"][0]["is_error"] is False
    assert "token-of-ada" not in with_token.text
    assert without.json()["steps"][0]["is_error"] is True
    assert "the user's own credential" in without.json()["steps"][0]["content"]


async def test_a_clients_key_is_not_forwarded(make_client: MakeClient, server: McpServer, tmp_path: Path) -> None:
    definition = entry(server, mcp={"forwardCaller": True}, allow=["headers"])
    agent = await agent_with(make_client, tmp_path, definition, api_keys=CLIENT_KEY)
    body = {"message": asking("show", calls=[calls_of("headers")])}
    as_bearer = await agent.post("/chat", json=body, headers={"Authorization": f"Bearer {CLIENT_KEY}"})
    headers = {"X-API-Key": CLIENT_KEY, "Authorization": "Bearer token-of-ada"}
    beside_a_token = await agent.post("/chat", json=body, headers=headers)

    assert as_bearer.json()["steps"][0]["is_error"] is True
    assert "the user's own credential" in as_bearer.json()["steps"][0]["content"]
    assert beside_a_token.json()["steps"][0]["is_error"] is False
