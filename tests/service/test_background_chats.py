"""Chats in the background, as their clients see them: events, conversations, tools, approvals, and how they end."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_service.app import create_app
from agent_service.config.loading import load
from service.task_client import CLIENT_KEY, keyed
from stand_in import StandIn, asking
from support.agent import MakeClient
from support.eventually import eventually_async
from support.mcp_servers import McpServer
from support.redis_server import RedisServer
from support.tool_agent import agent_with, calls_of, questions
from support.toolbox import entry

Event = dict[str, Any]
ADD = calls_of("add", a=2, b=3)


async def ask(client: httpx.AsyncClient, message: str, **more: Any) -> dict[str, Any]:
    headers = more.pop("headers", {})
    answer = await client.post("/chat", json={"message": message, "background": True, **more}, headers=headers)
    assert answer.status_code == 202, answer.text
    accepted: dict[str, Any] = answer.json()
    assert answer.headers["Location"] == accepted["status_url"]
    return accepted


async def follow(client: httpx.AsyncClient, accepted: dict[str, Any], after: str | None = None) -> list[Event]:
    """Return the events until the end of the stream."""
    answer = await client.get(accepted["events_url"], params={} if after is None else {"after": after})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


def text_of(events: list[Event]) -> str:
    return "".join(event["content"] for event in events if event["type"] == "text")


async def test_an_app_that_ends_while_it_connects_to_redis_ends_at_once(redis_server: RedisServer) -> None:
    settings = load(model_provider="echo", redis_url=redis_server.url)

    async def start_and_end(moments: int) -> None:
        app = create_app(settings)
        async with app.router.lifespan_context(app):
            for _ in range(moments):
                await asyncio.sleep(0)

    for moments in range(30):
        async with asyncio.timeout(20):
            await start_and_end(moments)


async def test_a_background_chat_runs_without_a_worker_and_has_the_events_of_a_stream(make_client: MakeClient) -> None:
    client = await make_client(api_runs_tasks=False)
    accepted = await ask(client, asking("tea", words=5))
    events = await follow(client, accepted)

    assert text_of(events).endswith("word0 word1 word2 word3 word4")
    assert events[-1]["type"] == "done"
    assert events[-1]["conversation_id"] == accepted["conversation_id"]
    assert events[-1]["output_tokens"] > 0
    task = (await client.get(accepted["status_url"])).json()
    assert (task["status"], task["conversation_id"]) == ("completed", accepted["conversation_id"])
    assert task["result"]["response"] == text_of(events)
    assert task["result"]["tokens_used"] == events[-1]["input_tokens"] + events[-1]["output_tokens"]


async def test_background_chats_and_plain_ones_share_a_conversation(make_client: MakeClient, stand_in: StandIn) -> None:
    client = await make_client()
    first = await ask(client, "My name is Ada.")
    await follow(client, first)
    plain = await client.post("/chat", json={"message": "Hello", "conversation_id": first["conversation_id"]})
    second = await ask(client, "And now?", conversation_id=first["conversation_id"])
    await follow(client, second)

    assert plain.json()["conversation_id"] == second["conversation_id"] == first["conversation_id"]
    asked = [message["content"] for message in questions(stand_in)[-1]["messages"] if message["role"] == "user"]
    assert [str(each).count(name) for each, name in zip(asked, ("Ada", "Hello", "now"), strict=True)] == [1, 1, 1]


async def test_a_conversation_goes_on_before_its_first_chat_has_an_answer(
    make_client: MakeClient, stand_in: StandIn
) -> None:
    client = await make_client()
    first = await ask(client, asking("one", hold="one"))
    second = await ask(client, "two", conversation_id=first["conversation_id"])
    stand_in.release("one")

    assert second["conversation_id"] == first["conversation_id"]
    assert [(await follow(client, each))[-1]["type"] for each in (first, second)] == ["done", "done"]


async def test_the_conversation_of_another_client_is_not_continued(make_client: MakeClient) -> None:
    other_key = "another-client-key-00001"
    client = await keyed(make_client)
    accepted = await ask(client, "hello")
    other = await make_client(api_keys=f"{CLIENT_KEY},{other_key}")
    other.headers["X-API-Key"] = other_key
    theirs = await ask(other, "hello", conversation_id=accepted["conversation_id"])

    assert theirs["conversation_id"] != accepted["conversation_id"]
    for path in (accepted["events_url"], accepted["status_url"]):
        assert (await other.get(path)).status_code == 404
    assert (await client.get("/tasks/unknown/events")).status_code == 404


async def test_a_repeated_request_returns_the_same_task_and_conversation(
    make_client: MakeClient, stand_in: StandIn
) -> None:
    client = await make_client()
    key = {"Idempotency-Key": "one"}
    first, again = await ask(client, "repeated", headers=key), await ask(client, "repeated", headers=key)
    await follow(client, first)
    other = await client.post("/chat", json={"message": "bye", "background": True}, headers=key)

    assert {name: first[name] for name in ("task_id", "conversation_id")} == {
        name: again[name] for name in ("task_id", "conversation_id")
    }
    assert other.status_code == 409
    assert [request["message"] for request in stand_in.requests()].count("repeated") == 1


async def test_an_answer_is_either_streamed_or_in_the_background(make_client: MakeClient) -> None:
    client = await make_client()

    answer = await client.post("/chat", json={"message": "hello", "background": True, "stream": True})
    assert answer.status_code == 422


async def test_a_position_that_cannot_be_is_refused(make_client: MakeClient) -> None:
    client = await make_client()
    accepted = await ask(client, "hello")
    events = await follow(client, accepted)
    last = f"{accepted['task_id']}.{len(events)}"

    for position in (f"{accepted['task_id']}.1000", "another.1"):
        for given in ({"params": {"after": position}}, {"headers": {"Last-Event-ID": position}}):
            answer = await client.get(accepted["events_url"], **given)  # type: ignore[arg-type]
            assert answer.status_code == 422, answer.text
    assert (await client.get(accepted["events_url"], headers={"Last-Event-ID": last})).status_code == 204


async def test_an_error_is_the_last_event(make_client: MakeClient) -> None:
    client = await make_client(model_max_retries=0)
    events = await follow(client, await ask(client, asking("hello", fault=400)))

    assert [event["type"] for event in events] == ["error"]
    assert events[0]["code"] == "refused"


async def test_an_attempt_after_a_failure_does_not_repeat_its_text(make_client: MakeClient) -> None:
    client = await make_client(api_runs_tasks=True, model_max_retries=0)
    accepted = await ask(client, asking("tea", words=20, error="overloaded_error", after=10, id="tea"))
    client.headers["X-Test"] = "1"
    events = await follow(client, accepted)

    assert [event["type"] for event in events if event["type"] in {"resumed", "restarted"}][:1] == ["resumed"]
    assert text_of(events).count('heard "tea') == 1


async def test_a_cancelled_chat_ends_its_stream_and_adds_nothing_to_the_conversation(
    make_client: MakeClient, stand_in: StandIn
) -> None:
    client = await make_client()
    accepted = await ask(client, asking("tea", hold="tea", after=3))
    following = asyncio.create_task(follow(client, accepted))

    async def runs() -> bool:
        return len(stand_in.requests()) == 1

    await eventually_async(runs, "the model is asked")
    assert (await client.delete(accepted["status_url"])).status_code == 200
    events = await following
    stand_in.release("tea")

    assert events[-1] == {"type": "error", "code": "cancelled", "message": "The task was cancelled."}
    await follow(client, await ask(client, "ink", conversation_id=accepted["conversation_id"]))
    assert len(questions(stand_in)[-1]["messages"]) == 1


async def test_tool_calls_are_events(make_client: MakeClient, server: McpServer, tmp_path: Path) -> None:
    client = await agent_with(make_client, tmp_path, entry(server))
    accepted = await ask(client, asking("sum", calls=[ADD]))
    events = await follow(client, accepted)

    kinds = [event["type"] for event in events]
    assert kinds == ["text", "tool_use", "tool_result", "text", "done"]
    assert events[1]["input"] == {"a": 2, "b": 3}
    assert (events[2]["id"], events[2]["content"], events[2]["is_error"]) == (events[1]["id"], "5", False)
    task = (await client.get(accepted["status_url"])).json()
    assert text_of(events) == task["result"]["response"]


async def test_a_chat_waits_for_an_approval_and_goes_on_in_its_conversation(
    make_client: MakeClient, server: McpServer, stand_in: StandIn, tmp_path: Path
) -> None:
    client = await agent_with(make_client, tmp_path, {**entry(server), "approve": ["add"]}, api_runs_tasks=True)
    first = await ask(client, "My name is Ada.")
    await follow(client, first)
    accepted = await ask(client, asking("sum", calls=[ADD]), conversation_id=first["conversation_id"])
    answer = await client.get(accepted["events_url"])
    waits = json.loads(answer.text.splitlines()[-2][6:])
    last_id = answer.text.splitlines()[-3][4:]

    assert waits["type"] == "input_required"
    assert waits["conversation_id"] == first["conversation_id"]
    (call,) = waits["approvals"]
    assert (call["tool"], call["input"]) == ("add", {"a": 2, "b": 3})
    decided = await client.post(f"{accepted['status_url']}/approvals", json={"id": call["id"], "approve": True})
    assert decided.status_code == 200, decided.text
    rest = await follow(client, accepted, last_id)
    assert [event["type"] for event in rest] == ["tool_result", "text", "done"]
    whole = await follow(client, accepted)
    assert "input_required" not in [event["type"] for event in whole]
    assert "Ada" in json.dumps(questions(stand_in)[-1]["messages"][0])
    assert text_of(whole) == (await client.get(accepted["status_url"])).json()["result"]["response"]
    await follow(client, await ask(client, "ink", conversation_id=first["conversation_id"]))
    asked = [
        each for each in questions(stand_in)[-1]["messages"] if "sum" in json.dumps(each) and each["role"] == "user"
    ]
    assert len(asked) == 1


async def test_a_plain_task_has_events_too_and_no_conversation(make_client: MakeClient) -> None:
    client = await make_client(api_runs_tasks=True)
    accepted = (await client.post("/tasks", json={"message": asking("tea", words=3)})).json()
    events = await follow(client, accepted)

    assert accepted["conversation_id"] is None
    assert text_of(events).endswith("word0 word1 word2")
    assert "conversation_id" not in events[-1]


@pytest.mark.parametrize("message", ["grüße 😀", "\u2028\u2029\r\n tea"])
async def test_text_of_any_kind_arrives_as_it_is(make_client: MakeClient, message: str) -> None:
    client = await make_client(model_provider="echo")
    events = await follow(client, await ask(client, message))

    assert text_of(events) == "You said: " + message.rstrip("\0")
