"""The readers of a runtime's answers: fragmentation, forms of text, and events that are skipped."""

import json

import pytest

from agent_service.agent.messages import Prompt, Usage
from agent_service.agent.turns import Turn
from agent_service.network.addresses import runtime_address
from agent_service.network.event_stream import EventStream
from agent_service.runtime import headers
from agent_service.runtime.answers import loads
from agent_service.runtime.invocations import text_of

STREAM = b'event: a\r\ndata: "x"\r\n\r\n: comment\r\rdata: 1\rdata: 2\n\nid: 7\n\ndata:3\n\n'
EVENTS = [(b"a", b' "x"'), (b"", b" 1\n 2"), (b"", b"3")]


@pytest.mark.parametrize("size", range(1, len(STREAM) + 1))
def test_fragmentation_of_a_stream_makes_no_difference(size: int) -> None:
    stream = EventStream()
    chunks = [STREAM[start : start + size] for start in range(0, len(STREAM), size)]
    assert [each for chunk in chunks for each in stream.feed(chunk)] == EVENTS


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Hello", "Hello"),
        ("", ""),
        ({"response": ""}, ""),
        ({"response": None, "result": "Hello"}, "Hello"),
        ({"message": {"content": [{"text": "Hel"}, {"toolUse": {"input": "x"}}, {"text": "lo"}]}}, "Hello"),
        (["Hel", "lo"], "Hello"),
        ({"status": "success"}, None),
        ({"response": 7}, None),
        (7, None),
        ([], None),
        (json.loads('{"result":' * 20 + '"Hello"' + "}" * 20), None),
    ],
)
def test_the_text_of_a_value_is_found_where_agents_put_it(value: object, text: str | None) -> None:
    assert text_of(value) == text


def test_json_of_python_is_read_and_other_data_is_a_value_error() -> None:
    assert loads(b'"\\ud83d"') == "\ud83d"
    for data in (b"", b"{", b"[" * 100_000, b"\xff"):
        with pytest.raises(ValueError, match=r"."):
            loads(data)


@pytest.mark.parametrize(
    "conversation_id", [None, "short", "x" * 500, "a\r\nX-Injected: b" + "c" * 40, "é" * 40, "0" * 36]
)
def test_the_id_of_a_session_is_safe_in_a_header_and_stable(conversation_id: str | None) -> None:
    turn = Turn(Usage(), 0.0)
    prompt = Prompt("Hi", conversation_id=conversation_id)
    session = headers.session_id(prompt, turn)
    assert 33 <= len(session) <= 256
    assert session.isascii()
    assert session.isprintable()
    assert session == headers.session_id(prompt, turn)


def test_the_deadline_is_in_utc() -> None:
    assert headers.deadline(Turn(Usage(), 1_700_000_000.25)) == "2023-11-14T22:13:20.250Z"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:8080", "begins with http:// or https://"),
        ("http://user:pw@127.0.0.1:8080", "user name or password"),
        ("http://127.0.0.1:8080/path", "RUNTIME_PATH"),
        ("http://127.0.0.1:8080?a=b", "remove the `\\?`"),
        ("http://", "valid host name"),
        ("unix:///run/socket", "begins with http:// or https://"),
    ],
)
def test_an_address_of_a_runtime_that_cannot_be_used_is_refused(address: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        runtime_address(address)


def test_an_address_of_a_runtime_has_no_slash_at_its_end() -> None:
    assert runtime_address(" http://[::1]:8080/ ") == "http://[::1]:8080"
