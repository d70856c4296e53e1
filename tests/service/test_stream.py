"""`POST /chat/stream`: events as they arrive, heartbeats and mid-stream errors."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from stand_in import StandIn, asking
from support.agent import Service, running_service

pytestmark = pytest.mark.timing


@pytest.fixture
def service(heartbeat_service: Service, stand_in: StandIn) -> Service:
    """Return a service whose streams send heartbeats within the duration of a test."""
    assert stand_in.requests() == []
    return heartbeat_service


def lines(service: Service, path: str = "/chat/stream", **body: object) -> Iterator[str]:
    """Yield the lines that are not empty, as they arrive."""
    with httpx.stream("POST", service.url + path, json=body, timeout=30) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-accel-buffering"] == "no"
        yield from (line for line in answer.iter_lines() if line)


def events(service: Service, path: str = "/chat/stream", **body: object) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in lines(service, path, **body) if line[0] != ":"]


def text(received: list[dict[str, Any]]) -> str:
    return "".join(event["content"] for event in received if event["type"] == "text")


@pytest.mark.parametrize(("path", "body"), [("/chat/stream", {}), ("/chat", {"stream": True})])
def test_a_stream_is_text_events_followed_by_done(service: Service, path: str, body: dict[str, object]) -> None:
    received = events(service, path, message=asking("hello 😀\u2028there", slow=0.02), **body)
    assert [event["type"] for event in received[:-1]] == ["text"] * (len(received) - 1)
    assert len(received) > 3
    message = asking("hello 😀\u2028there", slow=0.02)
    answer = f'Stand-in heard "{message}" (model claude-sonnet-5-5; system prompt "Be brief.").'
    assert text(received) == answer
    done = received[-1]
    assert set(done) == {"type", "input_tokens", "output_tokens", "conversation_id"}
    assert (done["type"], done["input_tokens"], done["output_tokens"]) == ("done", 6, len(answer.split()))


def test_the_system_prompt_of_a_request_replaces_that_of_the_agent(service: Service) -> None:
    assert 'system prompt "Be loud."' in text(events(service, message="hello", system_prompt="Be loud."))


@pytest.mark.parametrize("prompt", ["x" * 5001, "a\0b", "  "])
def test_an_invalid_system_prompt_is_422(service: Service, stand_in: StandIn, prompt: str) -> None:
    assert service.post("/chat/stream", message="hello", system_prompt=prompt).status_code == 422
    assert stand_in.requests() == []


def test_text_is_forwarded_while_the_model_is_still_generating(service: Service, stand_in: StandIn) -> None:
    stream = lines(service, message=asking("hello", slow=0.1))
    assert '"text"' in next(line for line in stream if not line.startswith(":"))
    assert stand_in.last()["state"] != "done"
    assert '"done"' in list(stream)[-1]


@pytest.mark.parametrize("behaviour", [asking(stall=2), asking(silent=2), asking(ping=2)])
def test_comments_keep_the_connection_alive_while_the_model_is_silent(service: Service, behaviour: str) -> None:
    received = list(lines(service, message=behaviour))
    assert any(line.startswith(":") for line in received)
    assert '"done"' in received[-1]


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (asking(break_at=3), "broke off"),
        (asking(end_at=3), "early"),
        (asking(error="overloaded_error", after=3), "overloaded"),
        (asking(error="rate_limit_error", after=3), "limits"),
    ],
)
def test_a_mid_stream_error_is_the_last_event(service: Service, behaviour: str, words: str) -> None:
    received = events(service, message=f"hello {behaviour} and more words")
    assert {event["type"] for event in received[:-1]} == {"text"}
    assert text(received) == 'Stand-in heard "hello '
    assert received[-1]["type"] == "error"
    assert words in received[-1]["message"]


def test_an_error_after_a_heartbeat_is_also_an_event(service: Service) -> None:
    received = events(service, message=asking(stall=2, fault=400))
    assert [event["type"] for event in received] == ["error"]


@pytest.fixture(scope="module")
def impatient(shared_settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Yield a service whose requests may take 2 s, and its streams 8 s."""
    times = {"REQUEST_TIMEOUT_SECONDS": "2", "STREAM_TIMEOUT_SECONDS": "8"}
    folder = tmp_path_factory.mktemp("impatient")
    with running_service(folder, **shared_settings, **times, MAX_TOKENS="200000") as running:
        yield running


@pytest.mark.parametrize(
    "behaviour", [asking("one two three four five six", slow=0.3), asking(ping=4), asking(ping=1, bulk=4)]
)
def test_a_stream_may_take_longer_than_a_request(impatient: Service, behaviour: str) -> None:
    received = events(impatient, message=behaviour)
    assert received[-1]["type"] == "done", received[-1]


def test_a_stream_that_takes_too_long_ends_with_an_error_event(impatient: Service) -> None:
    received = events(impatient, message=asking(slow=0.3, words=100))
    assert received[0]["type"] == "text"
    assert received[-1] == {"type": "error", "message": "The model did not finish within 8 seconds."}


def test_a_stream_whose_model_falls_silent_ends_with_an_error_event(impatient: Service) -> None:
    received = events(impatient, message=asking("one two three", hold="never", after=2))
    assert text(received) == "Stand-in heard "
    assert received[-1] == {"type": "error", "message": "The model API sent nothing for 2 seconds."}


@pytest.mark.parametrize("behaviour", [asking(stall=20), asking(silent=20)])
def test_a_stream_that_does_not_start_is_504(impatient: Service, behaviour: str) -> None:
    answer = impatient.post("/chat/stream", message=behaviour)
    assert answer.status_code == 504
    assert answer.json() == {"detail": "The model API sent nothing for 2 seconds."}


def test_a_slow_reader_does_not_count_as_a_silent_model(impatient: Service) -> None:
    body = {"message": asking(bulk=16)}
    with httpx.stream("POST", f"{impatient.url}/chat/stream", json=body, timeout=30) as answer:
        received = answer.iter_lines()
        next(received)
        started = time.monotonic()
        while time.monotonic() - started < 4:
            assert impatient.metric("agent_requests_in_flight") == 1, "its turn goes on"
        assert '"done"' in [line for line in received if line][-1]


def test_concurrent_streams_are_complete_and_do_not_mix(service: Service) -> None:
    with httpx.Client(timeout=30, limits=httpx.Limits(max_connections=40)) as client:
        opened = [
            client.send(
                client.build_request(
                    "POST", f"{service.url}/chat/stream", json={"message": asking(f"caller-{number}", words=50)}
                ),
                stream=True,
            )
            for number in range(40)
        ]
        for number, answer in enumerate(opened):
            body = answer.read().decode()
            assert f"caller-{number} " in body
            assert body.count('"type":"done"') == 1
