"""Conversations with tools: what is stored of a turn, what is sent again, and what is read from the prompt cache."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_service.chat.kept_steps import EXCERPT_CHARACTERS
from stand_in import StandIn, asking
from support.agent import MakeClient
from support.mcp_servers import McpServer, StartServer
from support.redis_server import RedisServer
from support.tool_agent import agent_with, blocks, calls_of, chat, questions, results, texts
from support.toolbox import entry

ADD = calls_of("add", a=2, b=3)
TURNS = 20


@pytest.fixture
def server(start_mcp: StartServer) -> McpServer:
    return start_mcp()


@pytest.fixture
async def agent(make_client: MakeClient, server: McpServer, tmp_path: Path) -> httpx.AsyncClient:
    return await agent_with(make_client, tmp_path, entry(server))


def key_of(conversation_id: str) -> str:
    """Return the key of a conversation of a client without a key."""
    return f"{{portside}}:conversation:anyone:{conversation_id}"


async def test_later_turns_send_the_blocks_of_earlier_ones(agent: httpx.AsyncClient, stand_in: StandIn) -> None:
    first = await chat(agent, asking("sum", calls=[ADD, calls_of("fail")]))
    await chat(agent, "and now", first["conversation_id"])
    asked = questions(stand_in)

    in_turn, later = asked[2]["messages"], asked[3]["messages"]
    assert [message["role"] for message in later] == ["user", *["assistant", "user"] * 3]
    assert [blocks(message) for message in later[:5]] == [blocks(message) for message in in_turn]
    assert blocks(later[5]) == [{"type": "text", "text": first["response"].split("\n\n")[2]}]
    assert blocks(later[6]) == [{"type": "text", "text": "and now"}]


async def test_a_conversation_of_the_release_before_goes_on(
    agent: httpx.AsyncClient, stand_in: StandIn, redis_server: RedisServer
) -> None:
    known = "00000000-0000-4000-8000-000000000001"
    redis_server.command("RPUSH", key_of(known), '7 ["I am Ada","Hello Ada"]')
    answer = await chat(agent, asking("sum", calls=[ADD]), known)
    again = await chat(agent, "who am I", known)

    assert answer["conversation_id"] == again["conversation_id"] == known
    assert stand_in.last()["history"][:2] == ["user: I am Ada", "assistant: Hello Ada"]
    assert len(questions(stand_in)[-1]["messages"]) == 7


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [{"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "add", "input": {}}]}],
        [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": []}]}],
        [{"role": "assistant", "content": [{"text": "no type"}]}],
        [{"role": "assistant", "content": []}],
        [{"role": "assistant", "content": [{"type": "text", "text": "\ud800"}]}],
    ],
)
async def test_stored_steps_that_cannot_be_sent_are_left_out(
    agent: httpx.AsyncClient, stand_in: StandIn, redis_server: RedisServer, steps: object
) -> None:
    known = "00000000-0000-4000-8000-000000000001"
    element = f"7 {json.dumps(['I am Ada', 'Hello Ada', steps])}"
    redis_server.command("RPUSH", key_of(known), element)
    await chat(agent, "who am I", known)

    assert stand_in.last()["history"] == ["user: I am Ada", "assistant: Hello Ada"]


async def test_without_tools_the_texts_of_earlier_turns_are_sent(
    make_client: MakeClient, server: McpServer, stand_in: StandIn, tmp_path: Path
) -> None:
    agent = await agent_with(make_client, tmp_path, entry(server))
    answer = await chat(agent, asking("sum", calls=[ADD]))
    plain = await make_client()
    await chat(plain, "and now", answer["conversation_id"])

    assert stand_in.last()["history"] == [f"user: {asking('sum', calls=[ADD])}", f"assistant: {answer['response']}"]


async def test_long_results_are_stored_as_excerpts(
    make_client: MakeClient, server: McpServer, stand_in: StandIn, tmp_path: Path
) -> None:
    agent = await agent_with(make_client, tmp_path, entry(server))
    calls = [*calls_of("text", characters=100_000), *calls_of("picture")]
    answer = await chat(agent, asking("read", calls=[calls]))
    await chat(agent, "and now", answer["conversation_id"])
    stored = results({"messages": [questions(stand_in)[-1]["messages"][2]]})

    assert texts(stored)[0] == "x" * EXCERPT_CHARACTERS + " [shortened]"
    assert "[image: no longer kept]" in texts(stored)[1]
    assert len(answer["steps"][0]["content"]) < 17_000


async def test_calls_too_large_for_the_conversation_leave_only_the_texts(
    make_client: MakeClient, server: McpServer, stand_in: StandIn, tmp_path: Path
) -> None:
    agent = await agent_with(make_client, tmp_path, entry(server), conversation_max_tokens=300)
    calls = [{"name": "add", "input": {"a": number, "b": 0}} for number in range(20)]
    stand_in.behave(calls=[calls])
    answer = await chat(agent, "sums")
    stand_in.behave()
    await chat(agent, "and now", answer["conversation_id"])

    assert stand_in.last()["history"] == ["user: sums", f"assistant: {answer['response']}"]


async def test_a_turn_that_fails_after_a_call_is_not_stored(agent: httpx.AsyncClient, stand_in: StandIn) -> None:
    known = (await chat(agent, "hello"))["conversation_id"]
    body = {"message": asking("fail", calls=[ADD], error="overloaded_error", after=3), "conversation_id": known}
    assert '"type":"error"' in (await agent.post("/chat/stream", json=body)).text
    await chat(agent, "again", known)

    assert [text for text in stand_in.last()["history"] if "fail" in text] == []


async def test_later_turns_and_steps_read_from_the_prompt_cache(
    make_client: MakeClient, server: McpServer, stand_in: StandIn, tmp_path: Path
) -> None:
    agent = await agent_with(make_client, tmp_path, entry(server), system_prompt="Be brief.")
    stand_in.behave(caching=True)
    known = None
    for turn in range(TURNS):
        calls = [[{"name": "add", "input": {"a": turn, "b": number}} for number in range(2)]]
        known = (await chat(agent, asking(f"turn {turn}", calls=calls), known))["conversation_id"]
    usage = [request["usage"] for request in stand_in.requests()]

    assert len(usage) == 2 * TURNS
    later = usage[1:]
    read = sum(each["cache_read_input_tokens"] for each in later)
    share = read / sum(sum(each.values()) for each in later)
    assert share >= 0.9, f"{share:.1%} of the input was read from the cache"
    assert max(marks(question) for question in questions(stand_in)) <= 4


async def test_a_step_with_many_calls_still_reads_what_was_cached_before_it(
    make_client: MakeClient, server: McpServer, stand_in: StandIn, tmp_path: Path
) -> None:
    agent = await agent_with(make_client, tmp_path, entry(server), system_prompt="Be brief. " * 500)
    calls = [[{"name": "add", "input": {"a": number, "b": 0}} for number in range(40)], ADD]
    stand_in.behave(caching=True, calls=calls)
    await chat(agent, "sums")
    first, second, third = (request["usage"] for request in stand_in.requests())

    assert second["cache_read_input_tokens"] == first["cache_creation_input_tokens"]
    assert third["cache_read_input_tokens"] == sum(
        second[name] for name in ("cache_read_input_tokens", "cache_creation_input_tokens")
    )


async def test_a_short_prefix_is_not_marked(
    make_client: MakeClient, server: McpServer, stand_in: StandIn, tmp_path: Path
) -> None:
    agent = await agent_with(make_client, tmp_path, entry(server, allow=["who"]))
    await chat(agent, asking("who", calls=[calls_of("who")]))

    assert [marks(question) for question in questions(stand_in)] == [0, 0]


def marks(value: Any) -> int:
    """Return the number of marks for the cache in a question."""
    if isinstance(value, dict):
        return ("cache_control" in value) + sum(map(marks, value.values()))
    return sum(map(marks, value)) if isinstance(value, list) else 0
