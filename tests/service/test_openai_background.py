"""Responses in the background: the official `openai` SDK in front of the real service, and its loss."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import pytest

from service.approvals import TEA, calling, calls
from service.openai_clients import official
from stand_in import StandIn, asking
from support.agent import KEY, Service, StartService
from support.eventually import eventually
from support.mcp_servers import McpServer

RUNS = {"API_RUNS_TASKS": "true"}
LONG = asking("hello", words=30)


@pytest.fixture
def sdk(service: Service) -> Iterator[openai.OpenAI]:
    with official(service.url) as client:
        yield client


def ask(sdk: openai.OpenAI, given: Any, **options: Any) -> Any:
    return sdk.responses.create(model="any", input=given, background=True, **options)


def ended(sdk: openai.OpenAI, response: Any) -> Any:
    """Return a response once it has ended."""
    eventually(
        lambda: sdk.responses.retrieve(response.id).status not in {"queued", "in_progress"},
        f"the response {response.id} has ended",
    )
    return sdk.responses.retrieve(response.id)


def events_of(sdk: openai.OpenAI, name: str, **after: int) -> list[Any]:
    """Return the events of a response: all, or those after a number."""
    options: Any = after
    return list(sdk.responses.retrieve(name, stream=True, **options))


def without_time(event: Any) -> dict[str, Any]:
    """Return an event without the time at which its sender saw the end of the response."""
    found: dict[str, Any] = event.to_dict()
    found.get("response", {}).pop("completed_at", None)
    return found


def test_a_response_in_the_background_can_be_asked_for(sdk: openai.OpenAI, stand_in: StandIn) -> None:
    asked = ask(sdk, asking("hello", words=5, hold="rest"), metadata={"a": "b"})
    assert (asked.status, asked.background, asked.output) == ("queued", True, []) or asked.status == "in_progress"
    assert asked.metadata == {"a": "b"}
    stand_in.release("rest")
    answer = ended(sdk, asked)
    assert (answer.id, answer.status) == (asked.id, "completed")
    assert answer.output_text.startswith('Stand-in heard "hello')
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens > 0


def test_its_events_can_be_followed_from_any_position(sdk: openai.OpenAI) -> None:
    events = list(ask(sdk, LONG, stream=True))
    assert [event.type for event in events][:2] == ["response.created", "response.in_progress"]
    assert events[-1].type == "response.completed"
    numbers = [event.sequence_number for event in events]
    assert numbers == sorted(set(numbers))
    name = events[0].response.id
    assert events[-1].response.output_text == "".join(
        event.delta for event in events if event.type == "response.output_text.delta"
    )

    for start in (0, 3, len(events) - 2):
        rest = events_of(sdk, name, starting_after=numbers[start])
        assert list(map(without_time, rest)) == list(map(without_time, events[start + 1 :]))
    again = events_of(sdk, name)
    assert [event.sequence_number for event in again] == numbers


def test_a_position_in_the_future_is_refused(sdk: openai.OpenAI, stand_in: StandIn) -> None:
    over, running = ended(sdk, ask(sdk, "hello")), ask(sdk, asking("hello", hold="rest"))
    for response in (over, running):
        with pytest.raises(openai.BadRequestError, match="lies in the future") as raised:
            events_of(sdk, response.id, starting_after=99_999)
        assert raised.value.param == "starting_after"
    stand_in.release("rest")
    assert ended(sdk, running).status == "completed"
    last = events_of(sdk, running.id)[-1]
    assert events_of(sdk, running.id, starting_after=last.sequence_number) == []


def test_a_conversation_goes_on_after_a_response_in_the_background(sdk: openai.OpenAI, stand_in: StandIn) -> None:
    first = ended(sdk, ask(sdk, "one"))
    second = ended(sdk, ask(sdk, "two", previous_response_id=first.id))
    sdk.responses.create(model="any", input="three", previous_response_id=second.id)
    messages = json.loads(stand_in.last()["body"])["messages"]
    assert [message["content"] for message in messages][::2] == ["one", "two", "three"]
    assert messages[1]["content"] == first.output_text


def test_the_next_response_must_wait_for_the_one_before(sdk: openai.OpenAI, stand_in: StandIn) -> None:
    asked = ask(sdk, asking("hello", hold="rest"))
    with pytest.raises(openai.BadRequestError) as raised:
        ask(sdk, "next", previous_response_id=asked.id)
    assert raised.value.code == "previous_response_in_progress"
    stand_in.release("rest")
    ended(sdk, asked)


def test_a_response_in_the_background_can_be_cancelled(sdk: openai.OpenAI, stand_in: StandIn) -> None:
    asked = ask(sdk, asking("hello", hold="never"))
    assert sdk.responses.cancel(asked.id).status == "cancelled"
    assert sdk.responses.retrieve(asked.id).status == "cancelled"
    (*_, last) = events_of(sdk, asked.id)
    assert (last.type, last.response.status) == ("response.failed", "cancelled")
    stand_in.release("never")


def test_a_failure_is_in_the_response(sdk: openai.OpenAI) -> None:
    answer = ended(sdk, ask(sdk, asking("hello", fault=400)))
    assert answer.status == "failed"
    assert answer.error.message


@pytest.mark.parametrize("name", ["resp_1", f"resp_{'0' * 56}", f"resp_{'0' * 32}_task"])
def test_other_responses_cannot_be_asked_for(sdk: openai.OpenAI, name: str) -> None:
    for call in (sdk.responses.retrieve, sdk.responses.cancel):
        with pytest.raises(openai.NotFoundError):
            call(name)
    with pytest.raises(openai.NotFoundError):
        events_of(sdk, name)


def test_a_call_that_waits_goes_on_with_the_decision(
    start_service: StartService, stand_in: StandIn, server: McpServer, tmp_path: Path
) -> None:
    file = tmp_path / "tools.json"
    file.write_text(json.dumps({"tools": [{"name": "shop", "mcp": {"url": server.url}, "approve": ["slow"]}]}))
    shop = start_service(
        ANTHROPIC_API_KEY=KEY, ANTHROPIC_BASE_URL=stand_in.url, TOOLS_FILE=str(file), RATE_LIMIT_REQUESTS="0", **RUNS
    )
    with official(shop.url) as sdk:
        asked = ended(sdk, ask(sdk, calling([TEA])))
        request = asked.output[-1]
        assert (request.type, request.name, json.loads(request.arguments)) == (
            "mcp_approval_request",
            "slow",
            TEA["input"],
        )
        (*_, last) = events_of(sdk, asked.id)
        assert last.response.output[-1].id == request.id

        decision: Any = {"type": "mcp_approval_response", "approval_request_id": request.id, "approve": True}
        answer = ended(sdk, ask(sdk, [decision], previous_response_id=asked.id))
        assert answer.id == asked.id
        call = next(item for item in answer.output if item.type == "mcp_call")
        assert (call.name, call.server_label, call.status) == ("slow", "shop", "completed")
        assert "slept tea" in answer.output_text
    assert calls(server) == ["tea"]


def test_another_replica_goes_on_with_the_stream_of_one_that_was_killed(
    start_service: StartService, stand_in: StandIn
) -> None:
    settings = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": stand_in.url, **RUNS}
    one, two = start_service(**settings), start_service(**settings)
    with ExitStack() as stack:
        first, second = (stack.enter_context(official(each.url)) for each in (one, two))
        stream = ask(first, asking("hello", words=30, hold="rest", after=5), stream=True)
        seen = []
        for event in stream:
            seen.append(event)
            if event.type == "response.output_text.delta":
                break
        one.kill()
        rest_of = second.responses.retrieve(seen[0].response.id, stream=True, starting_after=seen[-1].sequence_number)
        stand_in.release("rest")
        rest: list[Any] = list(rest_of)
    assert rest[-1].type == "response.completed"
    text = "".join(event.delta for event in (*seen, *rest) if event.type == "response.output_text.delta")
    assert text == rest[-1].response.output_text
    assert text.startswith('Stand-in heard "hello')
