"""Parsing answers from streams as the model API, gateways and hostile upstreams send them."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_service.agent.claude.answer import Answer
from agent_service.agent.errors import ModelError, ModelFailedError
from agent_service.agent.messages import Usage

START = {"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1}}}
BLOCK = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
TEXT = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}
DELTA = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}
STOP = {"type": "message_stop"}
WHOLE = (START, BLOCK, TEXT, DELTA, STOP)


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in events)


def read(
    stream: bytes, *, piece: int = 2**16, max_tokens: int = 100, media_type: str = "text/event-stream"
) -> tuple[str, Usage]:
    """Return the text and the usage of a whole answer that arrives in pieces of so many bytes."""
    usage = Usage()
    answer = Answer(usage, max_tokens=max_tokens, media_type=media_type)
    text = ""
    for start in range(0, len(stream), piece):
        text += "".join(answer.feed(stream[start : start + piece]))
        if answer.ended:
            return text, usage
    return text + "".join(answer.finish()), usage


SHAPES = {
    "as the model API sends it": sse(*WHOLE),
    "[DONE] behind the last event": sse(*WHOLE) + b"data: [DONE]\n\n",
    "a named [DONE]": sse(*WHOLE) + b"event: done\ndata: [DONE]\n\n",
    "[DONE] in place of the last event": sse(*WHOLE[:-1]) + b"data: [DONE]\n\n",
    "nothing in place of the last event": sse(*WHOLE[:-1]),
    "an early [DONE]": b"data: [DONE]\n\n" + sse(*WHOLE),
    "rubbish behind the last event": sse(*WHOLE) + b'data: {"type": "err\n\n',
    "an error behind the last event": sse(*WHOLE, {"type": "error", "error": {"type": "api_error"}}),
    "comments": b": OPENROUTER PROCESSING\n\n".join([b"", *(sse(each) for each in WHOLE)]),
    "empty data": b"data:\n\nevent: ping\ndata: \n\n" + sse(*WHOLE),
    "data that is text": b"data: keep-alive\n\n" + sse(*WHOLE),
    "data that is JSON of another kind": b'data: []\n\ndata: 5\n\ndata: null\n\ndata: "x"\n\n' + sse(*WHOLE),
    "an event without data": b"event: ping\n\n" + sse(*WHOLE),
    "retry and id": b"retry: 3000\n\nid: 7\n" + sse(*WHOLE),
    "unknown fields": b"vendor: x\n" + sse(*WHOLE),
    "no event lines": b"".join(f"data: {json.dumps(each)}\n\n".encode() for each in WHOLE),
    "types in event lines alone": b"".join(
        f"event: {each['type']}\ndata: {json.dumps({k: v for k, v in each.items() if k != 'type'})}\n\n".encode()
        for each in WHOLE
    ),
    "no blanks behind the colons": sse(*WHOLE).replace(b": ", b":"),
    "data over several lines": b"".join(
        b"".join(b"data: " + line + b"\n" for line in json.dumps(each, indent=1).encode().splitlines()) + b"\n"
        for each in WHOLE
    ),
    "CRLF": sse(*WHOLE).replace(b"\n", b"\r\n"),
    "CR": sse(*WHOLE).replace(b"\n", b"\r"),
    "no empty line at the end": sse(*WHOLE)[:-1],
    "no line end at the end": sse(*WHOLE)[:-2],
    "unknown events": sse(START, {"type": "vendor_trace", "x": 1}, {"x": 1, "type": None}, *WHOLE[1:]),
    "unknown types of a type": sse(START, {"type": 5}, {"type": ["message_stop"]}, {"type": {}}, *WHOLE[1:]),
    "unknown blocks": sse(
        START,
        {"type": "content_block_start", "index": 0, "content_block": {"type": "vendor", "text": "not shown"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "vendor_delta", "text": "not shown"}},
        {"type": "content_block_start", "index": 0},
        {"type": "content_block_delta", "index": 0},
        {"type": "content_block_delta", "index": 0, "delta": None},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": None}},
        *WHOLE[1:],
    ),
    "text in the start of its block": sse(
        START, {**BLOCK, "content_block": {"type": "text", "text": "Hello"}}, DELTA, STOP
    ),
    "no message_start": sse(*WHOLE[1:]),
    "message_start without a message": sse({"type": "message_start"}, *WHOLE[1:]),
    "message_start without usage": sse({"type": "message_start", "message": {}}, *WHOLE[1:]),
    "usage null": sse({"type": "message_start", "message": {"usage": None}}, *WHOLE[1:]),
    "message_delta without a stop reason": sse(START, BLOCK, TEXT, {**DELTA, "delta": {}}, STOP),
    "message_delta with nothing": sse(START, BLOCK, TEXT, {"type": "message_delta"}, STOP),
    "no message_delta": sse(START, BLOCK, TEXT, STOP),
}


@pytest.mark.parametrize("piece", [1, 7, 2**16])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_whole_answer_is_parsed_in_any_form_that_a_gateway_sends(shape: str, piece: int) -> None:
    assert read(SHAPES[shape], piece=piece)[0] == "Hello"


@settings(deadline=None, max_examples=50)
@given(cuts=st.lists(st.integers(1, 40), min_size=1, max_size=30), end=st.sampled_from(["\n", "\r\n", "\r"]))
def test_fragmentation_of_an_answer_makes_no_difference(cuts: list[int], end: str) -> None:
    stream = sse(*WHOLE).replace(b"\n", end.encode())
    answer = Answer(Usage(), max_tokens=100, media_type="text/event-stream")
    text, start = "", 0
    while start < len(stream) and not answer.ended:
        size = cuts[start % len(cuts)]
        text += "".join(answer.feed(stream[start : start + size]))
        start += size
    if not answer.ended:
        text += "".join(answer.finish())
    assert text == "Hello"


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b": ping\n\n",
        b"data: [DONE]\n\n",
        sse(START, BLOCK, TEXT),
        sse(START, BLOCK, TEXT) + b"data: [DONE]\n\n",
        sse(START, BLOCK, TEXT, DELTA)[:-20],
    ],
)
def test_a_truncated_answer_is_an_error(stream: bytes) -> None:
    with pytest.raises(ModelFailedError, match="ended its answer early") as raised:
        read(stream)
    assert raised.value.kind == "ended_early"


@pytest.mark.parametrize(
    ("media_type", "shown"),
    [
        ("text/html", "text/html"),
        ("application/json", "application/json"),
        ("sk-secret: of a user", "another type"),
        ("x" * 200 + "/html", "another type"),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>It works!</html>", b'{"type":"message"}', b"x" * 3_000_000])
def test_a_body_other_than_an_event_stream_is_reported_by_its_content_type(
    media_type: str, shown: str, body: bytes
) -> None:
    with pytest.raises(ModelFailedError, match=f"answered with {shown}, not") as raised:
        read(body, media_type=media_type)
    assert raised.value.kind == "wrong_content_type"
    assert "ANTHROPIC_BASE_URL" in str(raised.value)


def test_events_count_regardless_of_the_content_type() -> None:
    assert read(sse(*WHOLE), media_type="text/plain")[0] == "Hello"


USAGES = [-5, -(10**12), 1.5, 1e30, 10**30, 10**9, float("nan"), float("inf"), True, "7", [1], {"a": 1}, None, 0]


@pytest.mark.parametrize("value", USAGES, ids=str)
@pytest.mark.parametrize("name", ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"])
def test_an_invalid_number_of_tokens_counts_as_missing(name: str, value: object) -> None:
    start = {"type": "message_start", "message": {"usage": {name: value}}}
    delta = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": value}}
    text, usage = read(sse(start, BLOCK, TEXT, delta, STOP))
    assert (text, usage.input_tokens, usage.output_tokens, usage.output_known) == ("Hello", 0, 0, False)


@pytest.mark.parametrize("malformed", [None, [], 5, "many", {"output_tokens": {}}])
def test_usage_of_another_form_counts_as_missing(malformed: object) -> None:
    text, usage = read(
        sse({"type": "message_start", "message": {"usage": malformed}}, BLOCK, TEXT, {**DELTA, "usage": malformed})
    )
    assert (text, usage.total) == ("Hello", 0)


def test_an_integer_written_as_a_float_counts() -> None:
    _, usage = read(sse({"type": "message_start", "message": {"usage": {"input_tokens": 7.0}}}, BLOCK, TEXT, DELTA))
    assert (usage.input_tokens, usage.output_tokens, usage.output_known) == (7, 2, True)


@pytest.mark.parametrize(
    "reason", ["evil\r\nSet-Cookie: a=b", "x" * 1000, ["end_turn"], {"a": 1}, 5, True, "", "Überlauf"]
)
def test_a_stop_reason_of_another_form_counts_as_missing(reason: object) -> None:
    text, usage = read(sse(START, BLOCK, TEXT, {**DELTA, "delta": {"stop_reason": reason}}, STOP))
    assert (text, usage.stop_reason) == ("Hello", None)


@pytest.mark.parametrize("error", [None, [], "words", {}, {"type": 5, "message": []}, {"type": ["overloaded_error"]}])
def test_an_error_event_of_another_form_is_an_error(error: object) -> None:
    with pytest.raises(ModelError):
        read(sse(START, {"type": "error", "error": error}, *WHOLE[1:]))


def test_an_error_event_without_a_type_is_an_error() -> None:
    with pytest.raises(ModelError, match="failed"):
        read(sse(START, TEXT) + b'data: {"error": {"message": "private words"}}\n\n' + sse(DELTA, STOP))


def test_the_text_before_an_error_is_kept() -> None:
    answer = Answer(Usage(), max_tokens=10, media_type="text/event-stream")
    pieces = answer.feed(sse(*WHOLE[:3], {"type": "error", "error": {"type": "overloaded_error"}}))
    assert next(pieces) == "Hello"
    with pytest.raises(ModelError, match="overloaded"):
        next(pieces)


@pytest.mark.parametrize(
    "data",
    [
        b'{"type":"content_block_delta","delta":{"type":"text_delta","text":"cut',
        b'{"type":"content_block_delta","delta":{"type":"text_delta","text":5}}',
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b'{"a":' + b"9" * 10_000 + b"}",
        b"{\xff\xfe}",
    ],
    ids=["cut", "no text", "deep", "a long number", "no UTF-8"],
)
def test_an_unreadable_event_is_an_error_and_not_a_gap(data: bytes) -> None:
    with pytest.raises((ValueError, RecursionError)):
        read(sse(START) + b"data: " + data + b"\n\n" + sse(*WHOLE[1:]))


def _endless(piece: bytes, *, max_tokens: int = 100) -> tuple[int, ModelFailedError]:
    """Feed `piece` repeatedly; return the number of bytes until the error, and the error."""
    answer = Answer(Usage(), max_tokens=max_tokens, media_type="text/event-stream")
    for fed in range(len(piece), 2**27, len(piece)):
        try:
            list(answer.feed(piece))
        except ModelFailedError as error:
            return fed, error
    pytest.fail("It has no end.")


ENDLESS = {
    "a line": b"x" * 2**16,
    "a line of data": b"data: " + b"x" * 2**16,
    "lines of data": b"data: x\n" * 2**13,
    "data without content": b"data:\n" * 2**13,
    "comments": b": ping\n\n" * 2**13,
    "empty lines": b"\n" * 2**16,
    "carriage returns": b"\r" * 2**16,
    "pings": sse({"type": "ping"}) * 2**10,
    "text": sse({**TEXT, "delta": {"type": "text_delta", "text": "y" * 2**16}}),
    "single letters": sse({**TEXT, "delta": {"type": "text_delta", "text": "y"}}) * 2**10,
    "thinking": sse({**TEXT, "delta": {"type": "thinking_delta", "thinking": "y" * 2**16}}),
    "starts": sse(START) * 2**10,
}


@pytest.mark.parametrize("what", ENDLESS)
def test_an_endless_answer_ends_in_bounded_memory(what: str) -> None:
    tracemalloc.start()
    try:
        fed, error = _endless(ENDLESS[what])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert error.kind == "too_large"
    assert fed < 2**23
    assert peak < 2**24


def test_the_text_of_an_answer_is_bounded_by_max_tokens() -> None:
    event = sse({**TEXT, "delta": {"type": "text_delta", "text": "y" * 1000}})
    small, large = (_endless(event, max_tokens=tokens)[0] for tokens in (1, 4096))
    assert small < 100_000
    assert 1_000_000 < large < 1_200_000


def test_the_largest_answer_that_max_tokens_allows_is_complete() -> None:
    """One token in each event, some of the longest that exist, in JSON's longest escapes."""
    words = ["x", " " * 128, "\U0001f600", "word"] * 1000
    events = [{**TEXT, "delta": {"type": "text_delta", "text": word}} for word in words]
    text, _ = read(sse(START, BLOCK, *events, DELTA, STOP), max_tokens=4000)
    assert text == "".join(words)
