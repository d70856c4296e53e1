"""`POST /chat`: answers, refused input, and how faults of the model API are reported."""

import asyncio
import json
import socket
import uuid
from collections.abc import Iterator

import httpx
import pytest

from stand_in import StandIn, asking
from support.agent import MakeClient, Service
from support.eventually import eventually

pytestmark = pytest.mark.timing


async def test_an_answer_comes_from_the_model_with_its_tokens_and_time(make_client: MakeClient) -> None:
    client = await make_client(default_model="claude-haiku-5-5", system_prompt="Be kind.")
    answer = await client.post("/chat", json={"message": "hello there"})
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"response", "conversation_id", "tokens_used", "processing_time_ms"}
    assert body["response"] == ('Stand-in heard "hello there" (model claude-haiku-5-5; system prompt "Be kind.").')
    assert body["tokens_used"] == 4 + 10
    assert body["processing_time_ms"] > 0
    assert uuid.UUID(body["conversation_id"])


async def test_an_unknown_conversation_starts_a_new_one(make_client: MakeClient) -> None:
    client = await make_client()
    answer = await client.post("/chat", json={"message": "hello", "conversation_id": "never-seen"})
    assert answer.status_code == 200
    assert answer.json()["conversation_id"] != "never-seen"


async def test_thinking_is_not_part_of_the_answer(make_client: MakeClient) -> None:
    client = await make_client()
    answer = await client.post("/chat", json={"message": asking("hello", thinking=True)})
    assert answer.json()["response"].startswith("Stand-in heard")


async def test_the_largest_token_limits_work_for_a_whole_answer(make_client: MakeClient, stand_in: StandIn) -> None:
    """The SDK refuses more than about 21,000 tokens in a call that does not stream."""
    client = await make_client(max_tokens=64_000)
    assert (await client.post("/chat", json={"message": "hello"})).status_code == 200
    assert stand_in.last()["max_tokens"] == 64_000


async def test_echo_answers_from_the_message_without_a_key(make_client: MakeClient, stand_in: StandIn) -> None:
    client = await make_client(model_provider="echo", anthropic_api_key=None)
    body = (await client.post("/chat", json={"message": "grüß dich\n\nWelt"})).json()
    assert body["response"] == "You said: grüß dich\n\nWelt"
    assert body["tokens_used"] > 0
    assert stand_in.requests() == []


async def test_characters_of_all_planes_arrive_and_return_unchanged(make_client: MakeClient) -> None:
    client = await make_client()
    message = 'naïve 😀 漢字 \u2028 \\ " line\nend \u0007'
    body = (await client.post("/chat", json={"message": message})).json()
    assert f'Stand-in heard "{message}"' in body["response"]


LONGEST = "x" * 10_000


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"message"',
        b'{"message": "a\x00b"}',
        b'{"message": "\xff\xfe"}',
        b'{"message": "\\ud800"}',
        b'{"\\ud800": 1, "message": "a"}',
        b'{"message": 1}',
        b'{"message": null}',
        b'{"message": ["a"]}',
        b"{}",
        b'{"message": NaN}',
        b"[" * 50_000,
        json.dumps({"message": ""}).encode(),
        json.dumps({"message": " \n\t "}).encode(),
        json.dumps({"message": "a\0b"}).encode(),
        json.dumps({"message": LONGEST + "x"}).encode(),
        json.dumps({"message": "a", "temperature": 1}).encode(),
        json.dumps({"message": "a", "conversation_id": "x" * 129}).encode(),
        json.dumps({"message": "a", "conversation_id": 7}).encode(),
    ],
)
def test_hostile_input_is_refused_with_422_and_never_reaches_the_model(
    service: Service, stand_in: StandIn, path: str, body: bytes
) -> None:
    answer = httpx.post(service.url + path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"]
    assert stand_in.requests() == []


async def test_a_validation_error_does_not_quote_the_input(make_client: MakeClient) -> None:
    client = await make_client()
    answer = await client.post("/chat", json={"message": "my secret plan\0"})
    assert "secret plan" not in answer.text


async def test_the_longest_message_is_accepted_even_when_escaped(make_client: MakeClient) -> None:
    client = await make_client()
    for message in (LONGEST, "😀" * 10_000):
        answer = await client.post(
            "/chat", content=json.dumps({"message": message}), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 200


def test_an_oversized_body_is_413_with_a_detail(service: Service) -> None:
    chunk = b"x" * 100_000

    def without_length() -> Iterator[bytes]:
        yield b'{"message": "'
        for _ in range(4):
            yield chunk

    for content in (b'{"message": "' + 4 * chunk, without_length()):
        answer = httpx.post(f"{service.url}/chat", content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
        assert "bytes" in answer.json()["detail"]


async def test_chat_has_no_system_prompt_field(make_client: MakeClient) -> None:
    client = await make_client()
    assert (await client.post("/chat", json={"message": "a", "system_prompt": "b"})).status_code == 422


@pytest.mark.parametrize("stream", [0, 1, 0.0, "yes", "true"])
async def test_stream_must_be_true_or_false(make_client: MakeClient, stream: object) -> None:
    client = await make_client(MODEL_PROVIDER="echo")
    answer = await client.post("/chat", json={"message": "a", "stream": stream})
    assert answer.status_code == 422


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
@pytest.mark.parametrize(
    ("behaviour", "status", "words"),
    [
        (asking(fault=400), 502, "refused the request (400)"),
        (asking(fault=401), 502, "credentials"),
        (asking(fault=403), 502, "credentials"),
        (asking(fault=404), 502, "refused the request (404)"),
        (asking(fault=413), 502, "refused the request (413)"),
        (asking(fault=429, retry_after=7), 429, "limits"),
        (asking(fault=500, retry_after=0.01), 502, "failed (500)"),
        (asking(fault=503, retry_after=0.01), 503, "overloaded"),
        (asking(fault=504, retry_after=0.01), 504, "in time"),
        (asking(fault=529, retry_after=0.01), 503, "overloaded"),
        (asking(error="overloaded_error", after=0), 503, "overloaded"),
        (asking(error="api_error", after=0), 502, "failed"),
        (asking(break_at=0), 502, "broke off"),
        (asking(end_at=0), 502, "ended its answer early"),
        (asking(garbage=True), 502, "answered with text/html"),
        (asking(refusal=True), 502, "declined"),
    ],
)
def test_a_fault_of_the_model_api_maps_to_a_status_and_a_detail(
    service: Service, path: str, behaviour: str, status: int, words: str
) -> None:
    answer = service.post(path, message=f"private words {behaviour}")
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]
    assert "private words" not in answer.text


@pytest.mark.parametrize("behaviour", [asking(break_at=3), asking(end_at=3), asking(error="overloaded_error", after=3)])
async def test_an_incomplete_answer_is_an_error(make_client: MakeClient, behaviour: str) -> None:
    client = await make_client()
    answer = await client.post("/chat", json={"message": behaviour})
    assert answer.status_code in {502, 503}
    assert set(answer.json()) == {"detail"}


async def test_retry_after_is_passed_on_at_once_without_waiting(make_client: MakeClient, stand_in: StandIn) -> None:
    client = await make_client()
    answer = await client.post("/chat", json={"message": asking(fault=429, retry_after=3600)})
    assert answer.headers["Retry-After"] == "3600"
    assert len(stand_in.requests()) == 1


async def test_a_429_without_a_time_still_carries_retry_after(make_client: MakeClient) -> None:
    client = await make_client()
    answer = await client.post("/chat", json={"message": asking(fault=429)})
    assert int(answer.headers["Retry-After"]) > 0


async def test_a_transient_error_of_the_model_api_is_retried_once(make_client: MakeClient, stand_in: StandIn) -> None:
    client = await make_client()
    answer = await client.post(
        "/chat", json={"message": asking(fault=500, times=1, retry_after=0.01, id=str(uuid.uuid4()))}
    )
    assert answer.status_code == 200
    assert [seen["status"] for seen in stand_in.requests()] == [500, 200]


def _states(stand_in: StandIn) -> list[str]:
    return [seen["state"] for seen in stand_in.requests()]


@pytest.mark.parametrize("behaviour", [asking(stall=20), asking(silent=20), asking(ping=20), asking(slow=20)])
async def test_an_answer_that_takes_too_long_is_504(make_client: MakeClient, stand_in: StandIn, behaviour: str) -> None:
    client = await make_client(request_timeout_seconds=2)
    answer = await client.post("/chat", json={"message": behaviour})
    assert answer.status_code == 504

    # Poll in another thread: the app runs in this one, and its event loop closes the connection to the stand-in.
    def disconnected() -> bool:
        return _states(stand_in) == ["disconnected"]

    await asyncio.to_thread(eventually, disconnected, "the call to the model ends with the time")


async def test_no_connection_to_the_model_api_is_503(make_client: MakeClient) -> None:
    client = await make_client(anthropic_base_url="http://127.0.0.1:1")
    answer = await client.post("/chat", json={"message": "hello"})
    assert answer.status_code == 503
    assert "Cannot connect" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
@pytest.mark.parametrize("behaviour", [asking(stall=20), asking(silent=20), asking(slow=20)])
def test_a_client_that_disconnects_ends_the_call_to_the_model(
    service: Service, stand_in: StandIn, path: str, behaviour: str
) -> None:
    address = httpx.URL(service.url)
    body = json.dumps({"message": behaviour})
    head = (
        f"POST {path} HTTP/1.1\r\nHost: agent\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((address.host, address.port or 80)) as client:
        client.sendall((head + body).encode())
        eventually(lambda: stand_in.requests() != [], "the model is asked")
    eventually(lambda: _states(stand_in) == ["disconnected"], "the stand-in sees its client leave")
    eventually(lambda: service.metric("agent_requests_in_flight") == 0, "nothing is in flight any more")
