"""The tool loop of the built-in agent: the real service, a real MCP server, and the model API's stand-in."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from stand_in import StandIn, asking
from support.agent import KEY, Service, StartService
from support.eventually import eventually
from support.tools_server import ToolsServer, running_tools_server


@pytest.fixture(scope="module")
def server_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToolsServer]:
    with running_tools_server(tmp_path_factory.mktemp("tools")) as server:
        yield server


@pytest.fixture
def server(server_process: ToolsServer) -> ToolsServer:
    (server_process.folder / "calls").unlink(missing_ok=True)
    return server_process


@pytest.fixture
def shop(server: ToolsServer, start_service: StartService, stand_in: StandIn, tmp_path: Path) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=start(server, start_service, stand_in, tmp_path).url, timeout=60) as client:
        yield client


def start(
    server: ToolsServer,
    start_service: StartService,
    stand_in: StandIn,
    folder: Path,
    *,
    tools: list[dict[str, Any]] | None = None,
    **settings: str,
) -> Service:
    """Start an agent with the tools of the server."""
    file = folder / "tools.json"
    file.write_text(json.dumps({"tools": tools or [{"name": "shop", "mcp": {"url": server.url}}]}), encoding="utf-8")
    given = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": stand_in.url, "TOOLS_FILE": str(file), **settings}
    return start_service(**given)


def calling(*steps: list[dict[str, Any]], **behaviour: Any) -> str:
    """Return a message that makes the stand-in call tools, one list for each step."""
    return asking("please", calls=steps, **behaviour)


def call(tool: str, **arguments: Any) -> dict[str, Any]:
    return {"name": tool, "input": arguments}


def chat(client: httpx.Client, message: str, conversation_id: str | None = None) -> dict[str, Any]:
    body = {"message": message} | ({"conversation_id": conversation_id} if conversation_id else {})
    answer = client.post("/chat", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def stream(client: httpx.Client, message: str) -> list[dict[str, Any]]:
    answer = client.post("/chat/stream", json={"message": message})
    assert answer.status_code == 200, answer.text
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


def bodies(stand_in: StandIn) -> list[dict[str, Any]]:
    return [json.loads(request["body"]) for request in stand_in.requests()]


def test_the_model_calls_a_tool_and_answers_with_its_result(
    shop: httpx.Client, server: ToolsServer, stand_in: StandIn
) -> None:
    answer = chat(shop, calling([call("price", item="tea")]))

    assert server.calls() == [("price", "tea")]
    assert "Results: tea costs 3 euros" in answer["response"]
    (step,) = answer["steps"]
    assert (step["name"], step["input"], step["is_error"]) == ("price", {"item": "tea"}, False)
    assert step["content"] == [{"type": "text", "text": "tea costs 3 euros"}]
    first, second = bodies(stand_in)
    assert {tool["name"] for tool in first["tools"]} == {"price", "order", "wait", "picture", "catalogue"}
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "user"]
    assert answer["tokens_used"] > 0


def test_an_answer_without_calls_has_no_steps(shop: httpx.Client) -> None:
    assert "steps" not in chat(shop, "hello")


def test_a_stream_shows_each_call_and_its_result_in_their_course(shop: httpx.Client) -> None:
    events = stream(shop, calling([call("price", item="tea")], [call("price", item="coffee")]))

    kinds = [event["type"] for event in events]
    course = [kind for number, kind in enumerate(kinds) if kind != "text" or kinds[number - 1] != "text" or not number]
    assert course == ["text", "tool_use", "tool_result", "text", "tool_use", "tool_result", "text", "done"]
    uses = [event for event in events if event["type"] == "tool_use"]
    results = [event for event in events if event["type"] == "tool_result"]
    assert [use["input"] for use in uses] == [{"item": "tea"}, {"item": "coffee"}]
    assert [result["id"] for result in results] == [use["id"] for use in uses]
    assert results[1]["content"] == [{"type": "text", "text": "coffee costs 6 euros"}]


def test_calls_of_one_step_run_side_by_side_and_their_results_keep_the_order(
    shop: httpx.Client, server: ToolsServer, stand_in: StandIn
) -> None:
    server.release("later")
    message = calling([call("wait", name="first"), call("wait", name="later"), call("price", item="tea")])
    with shop.stream("POST", "/chat/stream", json={"message": message}) as answer:
        events = (json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: "))
        finished = [next(event for event in events if event["type"] == "tool_result") for _ in range(2)]
        assert {"later was released", "tea costs 3 euros"} == {each["content"][0]["text"] for each in finished}
        server.release("first")
        rest = list(events)

    assert rest[-1]["type"] == "done"
    results = bodies(stand_in)[-1]["messages"][-1]["content"]
    texts = [result["content"][0]["text"] for result in results]
    assert texts == ["first was released", "later was released", "tea costs 3 euros"]


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (call("order", item="tea"), "tea is sold out"),
        (call("steal", item="tea"), "There is no tool steal. The tools are: catalogue, order, picture, price, wait."),
        ({"name": "price", "raw": '{"item": '}, "not a JSON object"),
        ({"name": "price", "raw": '["tea"]'}, "not a JSON object"),
        ({"name": "price", "input": {"thing": "tea"}}, "item"),
    ],
)
def test_an_error_of_a_call_is_a_result_for_the_model(shop: httpx.Client, use: dict[str, Any], words: str) -> None:
    answer = chat(shop, calling([use]))

    (step,) = answer["steps"]
    assert step["is_error"] is True
    assert words in step["content"][0]["text"]
    assert words in answer["response"]


def test_the_model_is_asked_once_more_without_tools_when_it_loops_for_ever(
    server: ToolsServer, start_service: StartService, stand_in: StandIn, tmp_path: Path
) -> None:
    agent = start(server, start_service, stand_in, tmp_path, MAX_STEPS="4")
    with httpx.Client(base_url=agent.url, timeout=60) as client:
        answer = chat(client, calling([call("price", item="tea")], endless=True))

    assert answer["stop_reason"] == "max_steps"
    assert len(answer["steps"]) == 3
    assert "Results: tea costs 3 euros" in answer["response"]
    questions = bodies(stand_in)
    assert [question.get("tool_choice") for question in questions] == [None, None, None, {"type": "none"}]


def test_a_turn_has_a_bound_of_tool_calls(
    server: ToolsServer, start_service: StartService, stand_in: StandIn, tmp_path: Path
) -> None:
    agent = start(server, start_service, stand_in, tmp_path, MAX_TOOL_CALLS="60")
    with httpx.Client(base_url=agent.url, timeout=60) as client:
        answer = chat(client, calling([call("price", item="tea")] * 100))

    assert answer["stop_reason"] == "max_tool_calls"
    assert len(server.calls()) == 60
    assert [step["is_error"] for step in answer["steps"]] == [False] * 60 + [True] * 40
    assert "limit of 60 tool calls" in answer["steps"][-1]["content"][0]["text"]


def test_thoughts_are_sent_back_within_the_turn_and_forgotten_after_it(shop: httpx.Client, stand_in: StandIn) -> None:
    # The stand-in refuses a thought whose signature was changed, as the model API does.
    answer = chat(shop, calling([call("price", item="tea")], thinking=True))

    within = bodies(stand_in)[-1]["messages"][1]["content"]
    assert [block["type"] for block in within] == ["thinking", "text", "tool_use"]
    chat(shop, "and now", answer["conversation_id"])
    after = [block["type"] for message in bodies(stand_in)[-1]["messages"][1:4] for block in message["content"]]
    assert after == ["text", "tool_use", "tool_result", "text"]


def test_a_paused_turn_goes_on(shop: httpx.Client, server: ToolsServer, stand_in: StandIn) -> None:
    answer = chat(shop, calling([call("price", item="tea")], pauses=2))

    assert answer["response"].startswith("Pause 1. Pause 2. Calling price. ")
    assert "stop_reason" not in answer
    assert len(server.calls()) == 1
    assert len(bodies(stand_in)) == 4


def test_tools_of_the_model_api_are_offered_and_their_blocks_sent_back(
    server: ToolsServer, start_service: StartService, stand_in: StandIn, tmp_path: Path
) -> None:
    tools: list[dict[str, Any]] = [
        {"name": "shop", "mcp": {"url": server.url}},
        {"name": "web", "builtin": "web_search"},
    ]
    agent = start(server, start_service, stand_in, tmp_path, tools=tools)
    with httpx.Client(base_url=agent.url, timeout=60) as client:
        answer = chat(client, calling([call("price", item="tea")], server_tool=True))
        chat(client, "and now", answer["conversation_id"])

    first, second, third = bodies(stand_in)
    assert first["tools"][-1]["name"] == "web_search"
    kinds = ["server_tool_use", "web_search_tool_result", "text", "tool_use"]
    assert [block["type"] for block in second["messages"][1]["content"]] == kinds
    assert third["messages"][1] == second["messages"][1]


def test_a_call_that_was_cut_short_is_not_made(shop: httpx.Client, server: ToolsServer, stand_in: StandIn) -> None:
    answer = chat(shop, calling([{"name": "price", "raw": '{"item": "te'}], stop="max_tokens"))

    assert answer["stop_reason"] == "max_tokens"
    assert server.calls() == []
    chat(shop, "and now", answer["conversation_id"])
    assert [message["role"] for message in bodies(stand_in)[-1]["messages"]] == ["user", "assistant", "user"]


def test_pictures_reach_the_model_and_long_texts_are_cut_for_the_client(shop: httpx.Client, stand_in: StandIn) -> None:
    answer = chat(shop, calling([call("picture", item="tea"), call("catalogue", characters=40_000)]))

    picture, catalogue = answer["steps"]
    assert picture["content"] == [{"type": "text", "text": "A picture of tea"}, {"type": "image"}]
    assert len(catalogue["content"][0]["text"]) < 20_000
    results = stand_in.requests()[-1]["body"]
    assert '"type":"image"' in results.replace(" ", "")
    assert "x" * 40_000 in results


def test_a_client_that_leaves_ends_the_calls(shop: httpx.Client, server: ToolsServer) -> None:
    message = calling([call("wait", name="never")])
    with shop.stream("POST", "/chat/stream", json={"message": message}) as answer:
        events = (json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: "))
        assert next(event for event in events if event["type"] == "tool_use")
        eventually(lambda: ("wait", "never") in server.calls(), "the call has begun")

    eventually(lambda: ("cancelled", "never") in server.calls(), "the call was cancelled")


def test_a_turn_may_be_silent_while_a_tool_works(
    server: ToolsServer, start_service: StartService, stand_in: StandIn, tmp_path: Path
) -> None:
    agent = start(server, start_service, stand_in, tmp_path, REQUEST_TIMEOUT_SECONDS="2", STREAM_TIMEOUT_SECONDS="60")
    body = {"message": calling([call("wait", name="slowly")])}
    with (
        httpx.Client(base_url=agent.url, timeout=60) as client,
        client.stream("POST", "/chat/stream", json=body) as answer,
    ):
        lines = answer.iter_lines()
        beats = 0
        # A heartbeat is sent for each time that nothing else was; four of them are longer than the limit of silence.
        while beats < 4:
            beats += next(lines).startswith(":")
        server.release("slowly")
        assert any('"type":"done"' in line for line in lines)


def test_a_task_uses_tools_and_shows_them(shop: httpx.Client, server: ToolsServer) -> None:
    task = shop.post("/tasks", json={"message": calling([call("price", item="tea")])}).json()

    found = eventually(
        lambda: (each := shop.get(task["status_url"]).json())["status"] == "completed" and each, "the task is completed"
    )
    assert "tea costs 3 euros" in found["result"]["response"]
    assert [step["name"] for step in found["result"]["steps"]] == ["price"]
    assert server.calls() == [("price", "tea")]


def test_a_budget_ends_a_turn_between_its_steps(
    server: ToolsServer, start_service: StartService, stand_in: StandIn, tmp_path: Path
) -> None:
    agent = start(server, start_service, stand_in, tmp_path, BUDGET_TOKENS="1", BUDGET_PERIOD="day")
    with httpx.Client(base_url=agent.url, timeout=60) as client:
        answer = chat(client, calling([call("price", item="tea")], [call("price", item="coffee")]))

    assert answer["stop_reason"] == "budget"
    assert server.calls() == [("price", "tea")]
    assert len(stand_in.requests()) == 1


def test_the_prefix_of_a_conversation_is_read_from_the_cache(
    server: ToolsServer, start_service: StartService, stand_in: StandIn, tmp_path: Path
) -> None:
    """20 turns with a tool call each: at least 90 % of the input after the first call comes from the cache."""
    stand_in.behave(caching=True)
    agent = start(server, start_service, stand_in, tmp_path, SYSTEM_PROMPT="Be brief. " * 450)
    conversation = None
    with httpx.Client(base_url=agent.url, timeout=60) as client:
        for number in range(20):
            answer = chat(client, calling([call("price", item=f"tea {number}")]), conversation)
            conversation = answer["conversation_id"]

    first, *later = [request["usage"] for request in stand_in.requests()]
    assert len(later) == 39
    assert first["cache_read_input_tokens"] == 0
    assert sum(usage["cache_read_input_tokens"] for usage in later) / sum(sum(usage.values()) for usage in later) >= 0.9


async def test_two_turns_of_one_conversation_keep_their_blocks_apart(
    server: ToolsServer,
    start_service: StartService,
    stand_in: StandIn,
    tmp_path: Path,
) -> None:
    agent = start(server, start_service, stand_in, tmp_path)
    async with httpx.AsyncClient(base_url=agent.url, timeout=60) as client:
        first = (await client.post("/chat", json={"message": "hello"})).json()
        known = {"conversation_id": first["conversation_id"]}
        messages = [calling([call("wait", name=name)]) for name in ("one", "two")]
        turns = [asyncio.create_task(client.post("/chat", json={"message": each, **known})) for each in messages]
        await asyncio.to_thread(eventually, lambda: len(server.calls()) == 2, "both calls have begun")
        server.release("two")
        server.release("one")
        assert [turn.status_code for turn in await asyncio.gather(*turns)] == [200, 200]
        # The stand-in refuses a history whose calls and results do not match.
        last = await client.post("/chat", json={"message": "and now", **known})
    assert last.status_code == 200
    assert len(bodies(stand_in)[-1]["messages"]) == 2 + 4 + 4 + 1
