"""The usage in the bytes of an answer, however they are cut into pieces."""

import json
from typing import Any

import pytest

from agent_service.agent.messages import Usage
from agent_service.gateway.forms import Form
from agent_service.gateway.meter import Meter, asked


def event(kind: str, **content: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **content})}\n\n".encode()


DELTA = event(
    "content_block_delta", index=0, delta={"type": "text_delta", "text": 'It says "usage": {"output_tokens": 1}'}
)
START = event(
    "message_start",
    message={"usage": {"input_tokens": 12, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 5}},
)
END = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 20}) + event("message_stop")


def metered(*chunks: bytes, form: Form = Form.MESSAGES, events: bool = True, characters: int = 40) -> Usage:
    usage = Usage()
    meter = Meter(usage, form, events=events)
    for chunk in chunks:
        meter.feed(chunk)
    meter.finish(characters)
    return usage


@pytest.mark.parametrize("size", [1, 7, 100, 100_000])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_a_stream_is_counted_in_pieces_of_any_size(size: int, line_end: bytes) -> None:
    whole = (START + DELTA * 3 + END).replace(b"\n", line_end)

    usage = metered(*(whole[start : start + size] for start in range(0, len(whole), size)))

    assert (usage.uncached_tokens, usage.cache_read_tokens, usage.cache_write_tokens) == (12, 30, 5)
    assert (usage.output_tokens, usage.output_known, usage.stop_reason) == (20, True, "end_turn")


def test_a_stream_that_is_cut_is_estimated_from_its_text() -> None:
    usage = metered(START, event("content_block_delta", delta={"type": "text_delta", "text": "x" * 40}) * 2)

    assert (usage.input_tokens, usage.output_tokens, usage.output_known) == (47, 20, False)


def test_thinking_and_arguments_of_tools_count_as_output() -> None:
    thinking = event("content_block_delta", delta={"type": "thinking_delta", "thinking": "x" * 40})
    tool = event("content_block_delta", delta={"type": "input_json_delta", "partial_json": "x" * 40})

    assert metered(START, thinking, tool).output_tokens == 20


def test_an_answer_that_is_not_streamed_is_counted() -> None:
    body = {"content": [{"type": "text", "text": "Hi"}], "stop_reason": "max_tokens", "usage": {"input_tokens": 3}}
    body["usage"]["output_tokens"] = 7  # type: ignore[index]

    usage = metered(json.dumps(body).encode(), events=False)

    assert (usage.input_tokens, usage.output_tokens, usage.stop_reason) == (3, 7, "max_tokens")


def test_chat_completions_are_counted_with_what_was_read_from_the_cache() -> None:
    counts = {"prompt_tokens": 30, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 10}}
    chunk = b"data: " + json.dumps({"choices": [], "usage": counts}).encode() + b"\n\n"

    usage = metered(
        b'data: {"choices":[{"delta":{"content":"Hi"}}],"usage":null}\n\n', chunk, form=Form.CHAT_COMPLETIONS
    )

    assert (usage.uncached_tokens, usage.cache_read_tokens, usage.output_tokens) == (20, 10, 7)


def test_chat_completions_without_usage_are_estimated() -> None:
    chunk = b'data: {"choices":[{"delta":{"content":"%s"}}]}\n\n' % (b"x" * 40)

    usage = metered(chunk, form=Form.CHAT_COMPLETIONS)

    assert (usage.input_tokens, usage.output_tokens) == (10, 10)


@pytest.mark.parametrize("answer", [b"", b"not JSON", b"[]", b'{"usage":7}', b'{"usage":{"output_tokens":-1}}'])
@pytest.mark.parametrize("form", list(Form))
def test_an_answer_in_another_form_is_not_an_error(answer: bytes, form: Form) -> None:
    assert metered(answer, form=form, events=False).input_tokens == 10
    assert metered(b"data: " + answer + b"\n\n", form=form).output_tokens == 0


def test_the_data_of_an_image_is_not_estimated_as_text() -> None:
    image = {"type": "image", "source": {"type": "base64", "data": "A" * 100_000}}
    body = {"messages": [{"role": "user", "content": [image, {"type": "text", "text": "x" * 400}]}]}

    assert asked(json.dumps(body).encode()) == 400
