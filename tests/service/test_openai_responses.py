"""The Responses API: the official `openai` SDK in front of the real service."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from service.openai_clients import IMAGE, NAME, PNG, assistant, official, user
from stand_in import StandIn, asking
from support.agent import Service

LONG = asking("hello", words=20)
ORDER = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
]


@pytest.fixture
def sdk(service: Service) -> Iterator[openai.OpenAI]:
    with official(service.url) as client:
        yield client


def ask(sdk: openai.OpenAI, given: Any, **options: Any) -> Any:
    return sdk.responses.create(model="gpt-5", input=given, **options)


def sent(stand_in: StandIn) -> list[dict[str, Any]]:
    """Return the messages of the last request at the model API."""
    messages: list[dict[str, Any]] = json.loads(stand_in.last()["body"])["messages"]
    return messages


def test_a_response_has_the_text_and_the_tokens(sdk: openai.OpenAI, stand_in: StandIn) -> None:
    answer = ask(sdk, LONG, instructions="In rhyme.", metadata={"a": "b"}, max_output_tokens=50)
    assert (answer.status, answer.model, answer.metadata) == ("completed", NAME, {"a": "b"})
    assert answer.output_text.startswith('Stand-in heard "hello')
    (message,) = answer.output
    assert (message.type, message.role, message.status) == ("message", "assistant", "completed")
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens > 20
    last = stand_in.last()
    assert (last["system"], last["max_tokens"]) == ("Be brief.\n\nIn rhyme.", 50)


def test_a_stream_has_the_events_in_their_order_and_numbers(sdk: openai.OpenAI) -> None:
    events = list(ask(sdk, LONG, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    types = [event.type for event in events]
    assert list(dict.fromkeys(types)) == ORDER
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    whole = events[-1].response
    assert whole.output_text == text
    assert whole.usage.output_tokens > 0
    assert {event.item_id for event in events if hasattr(event, "item_id")} == {whole.output[0].id}
    assert events[0].response.id == whole.id


def test_text_is_sent_while_the_model_is_still_generating(sdk: openai.OpenAI, stand_in: StandIn) -> None:
    stream = ask(sdk, asking("hello", words=20, hold="rest", after=3), stream=True)
    deltas = (event.delta for event in stream if event.type == "response.output_text.delta")
    first = next(deltas)
    assert stand_in.last()["state"] == "running"
    stand_in.release("rest")
    assert first
    assert "".join(deltas)


def test_the_stream_helper_of_the_sdk_puts_the_response_together(sdk: openai.OpenAI) -> None:
    with sdk.responses.stream(model="any", input=LONG) as stream:
        snapshots = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
        answer = stream.get_final_response()
    assert answer.output_text == snapshots[-1]


def test_a_previous_response_is_continued_with_its_conversation(sdk: openai.OpenAI, stand_in: StandIn) -> None:
    first = ask(sdk, "one")
    second = ask(sdk, "two", previous_response_id=first.id)
    assert sent(stand_in) == [user("one"), assistant(first.output_text), user("two")]
    assert second.previous_response_id == first.id
    ask(sdk, "three", conversation=second.conversation.id)
    assert [message["content"] for message in sent(stand_in)][::2] == ["one", "two", "three"]


def test_the_conversation_of_a_streamed_response_can_be_continued(sdk: openai.OpenAI, stand_in: StandIn) -> None:
    first = list(ask(sdk, "one", stream=True))[-1].response
    ask(sdk, "two", previous_response_id=first.id)
    assert sent(stand_in) == [user("one"), assistant(first.output_text), user("two")]


def test_a_conversation_has_no_branches(sdk: openai.OpenAI) -> None:
    first = ask(sdk, "one")
    ask(sdk, "two", previous_response_id=first.id)
    with pytest.raises(openai.BadRequestError) as raised:
        ask(sdk, "another two", previous_response_id=first.id)
    assert raised.value.param == "previous_response_id"
    assert "branches" in raised.value.message


def test_an_unknown_previous_response_is_an_error_of_openai(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        ask(sdk, "one", previous_response_id="resp_0a0cc8227e90b719016a585a7ada54819a9d3b18aedb5e2658")
    assert raised.value.code == "previous_response_not_found"


@pytest.mark.parametrize("store", [None, False])
def test_a_history_in_the_input_is_not_stored(sdk: openai.OpenAI, stand_in: StandIn, *, store: bool | None) -> None:
    first = ask(sdk, "one", store=store)
    output = [item.model_dump() for item in first.output]
    given = [user("one"), *output, {"type": "message", **user([{"type": "input_text", "text": "two"}])}]
    second = ask(sdk, given, store=store)
    assert sent(stand_in) == [user("one"), assistant(first.output_text), user("two")]
    assert second.conversation is None
    with pytest.raises(openai.BadRequestError):
        ask(sdk, "three", previous_response_id=second.id)


def test_a_response_that_must_not_be_stored_is_not(sdk: openai.OpenAI, stand_in: StandIn, redis_server: Any) -> None:
    ask(sdk, "one", store=False)
    assert b"conversation" not in redis_server.command("KEYS", "*")
    ask(sdk, "one")
    assert b"conversation" in redis_server.command("KEYS", "*")


def test_pictures_and_files_reach_the_model(sdk: openai.OpenAI, stand_in: StandIn) -> None:
    url = f"data:image/png;base64,{PNG}"
    parts = [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": url, "detail": "auto"},
        {"type": "input_file", "file_url": "https://files.example/a.pdf"},
    ]
    ask(sdk, [{"role": "developer", "content": "Look."}, user(parts)])
    (message,) = sent(stand_in)
    text, picture, document = message["content"]
    assert text["text"] == "What is this?"
    assert picture == {"type": "image", "source": IMAGE}
    assert document["source"] == {"type": "url", "url": "https://files.example/a.pdf"}
    assert stand_in.last()["system"] == "Be brief.\n\nLook."


@pytest.mark.parametrize(
    ("behaviour", "reason"), [({"stop": "max_tokens"}, "max_output_tokens"), ({"refusal": True}, "content_filter")]
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_response_that_was_cut_short_is_incomplete(
    sdk: openai.OpenAI, behaviour: dict[str, Any], reason: str, *, stream: bool
) -> None:
    answer = ask(sdk, asking("hello", **behaviour), stream=stream)
    if stream:
        *_, last = answer
        assert last.type == "response.incomplete"
        answer = last.response
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", reason)


def test_an_error_within_a_stream_is_a_response_that_failed(sdk: openai.OpenAI) -> None:
    *_, last = ask(sdk, asking(error="overloaded_error", after=3, words=20), stream=True)
    assert last.type == "response.failed"
    assert (last.response.status, last.response.error.code) == ("failed", "server_error")
    assert "overloaded" in last.response.error.message


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_before_the_first_event_is_raised(sdk: openai.OpenAI, *, stream: bool) -> None:
    with pytest.raises(openai.RateLimitError):
        ask(sdk, asking("hello", fault=429, retry_after=7), stream=stream)


def test_many_streams_at_once_are_complete_and_do_not_mix(sdk: openai.OpenAI) -> None:
    def text(number: int) -> str:
        return str(list(ask(sdk, f"number {number}", stream=True))[-1].response.output_text)

    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(text, range(24)))
    assert all(f'"number {number}"' in answer for number, answer in enumerate(texts))
