"""Intermediaries between the agent and the model API: gateways, firewalls, login pages, and what they answer."""

import asyncio
import gzip
import json
import time
import zlib
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import httpx
import pytest

from agent_service.agent.claude.anthropic_api import AnthropicApi
from agent_service.agent.claude.credentials import ApiKeys, Credentials
from agent_service.agent.claude.provider import ClaudeProvider
from agent_service.agent.messages import Prompt, Usage
from support.agent import MakeClient
from support.gateway import DELTA, HEAD, START, STOP, Gateway, plain, running_gateway, sse, text, whole

PATHS = pytest.mark.parametrize("path", ["/chat", "/chat/stream"])


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with running_gateway(lambda _: whole()) as running:
        yield running


@pytest.fixture
async def client(make_client: MakeClient, gateway: Gateway) -> httpx.AsyncClient:
    return await make_client(anthropic_base_url=gateway.url, model_max_retries=0)


async def said(client: httpx.AsyncClient, path: str, message: str = "hello") -> dict[str, Any]:
    """Return the answer of either path in the form of `/chat`."""
    answer = await client.post(path, json={"message": message})
    assert answer.status_code == 200, answer.text
    if path == "/chat":
        found: dict[str, Any] = answer.json()
        return found
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert events[-1]["type"] == "done", events
    words = "".join(event["content"] for event in events[:-1])
    return {**events[-1], "response": words, "tokens_used": events[-1]["input_tokens"] + events[-1]["output_tokens"]}


async def failed(client: httpx.AsyncClient, path: str, status: int, message: str = "hello") -> str:
    answer = await client.post(path, json={"message": message})
    assert answer.status_code == status, answer.text
    return str(answer.json()["detail"])


@PATHS
async def test_an_answer_is_complete_at_its_last_event_whatever_follows(
    client: httpx.AsyncClient, gateway: Gateway, path: str
) -> None:
    """The connection stays open far longer than the test waits."""

    def answer(_: object) -> Iterator[bytes]:
        yield HEAD
        for event in (START, text("Hello"), DELTA, STOP):
            yield sse(event)
        yield b"data: [DONE]\n\n"
        for _ in range(600):
            time.sleep(0.1)
            yield b": still here\n\n"

    gateway.answer = answer
    async with asyncio.timeout(30):
        assert (await said(client, path))["response"] == "Hello"


async def test_connections_are_reused_after_an_answer() -> None:
    """Even where the end of a body arrives after the last event."""
    connections: set[int] = set()
    ended = asyncio.Event()
    body = sse(START, text("Hello"), DELTA, STOP) + b"data: [DONE]\n\n"
    chunk = f"{len(body):x}\r\n".encode() + body + b"\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(id(writer))
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                await reader.readexactly(int(head.split("content-length: ")[1].split()[0]))
                writer.write(HEAD.replace(b"Connection: close", b"Transfer-Encoding: chunked") + chunk)
                await writer.drain()
                await asyncio.sleep(0.02)
                writer.write(b"0\r\n\r\n")
                await writer.drain()
                ended.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        provider = ClaudeProvider(AnthropicApi(Credentials(ApiKeys("key")), url), model="m", max_tokens=10)
        for _ in range(5):
            assert "".join([piece async for piece in provider.stream(Prompt("hi"), Usage(), nullcontext)]) == "Hello"
            await ended.wait()
            ended.clear()
            await asyncio.sleep(0)
        await provider.close()
    assert len(connections) == 1


USAGES: list[object] = [
    None,
    {},
    [],
    "7",
    {"input_tokens": -500_000, "output_tokens": -9},
    {"input_tokens": 1e30, "output_tokens": 10**30},
    {"input_tokens": "7", "output_tokens": "7"},
    {"input_tokens": [1], "output_tokens": True},
    {"input_tokens": 1.5, "output_tokens": 1.5},
]


@pytest.mark.parametrize("usage", USAGES, ids=str)
async def test_missing_or_invalid_usage_is_estimated_and_counted(
    client: httpx.AsyncClient, gateway: Gateway, usage: object
) -> None:
    start, delta = {"type": "message_start", "message": {"usage": usage}}, {**DELTA, "usage": usage}
    gateway.answer = lambda _: HEAD + sse(start, text("x" * 400), delta, STOP)
    answer = await said(client, "/chat", "y" * 4000)
    assert answer["tokens_used"] == 1000 + 100
    assert (
        'agent_tokens_total{direction="output",model="claude-sonnet-5-5"} 100.0' in (await client.get("/metrics")).text
    )


PAGE = b"<html>Sign in at https://sso.internal</html>"
OVERLOADED = b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}'
NOT_EVENTS = {
    "a login page": (plain("200 OK", "text/html; charset=utf-8", PAGE), "text/html"),
    "an answer of JSON": (plain("200 OK", "application/json", b'{"type":"message","content":[]}'), "application/json"),
    "an error of JSON": (plain("200 OK", "application/json", OVERLOADED), "application/json"),
    "nothing": (plain("200 OK", "text/plain", b""), "text/plain"),
}


@PATHS
@pytest.mark.parametrize("what", NOT_EVENTS)
async def test_a_success_without_an_event_stream_is_reported_with_its_content_type(
    client: httpx.AsyncClient, gateway: Gateway, path: str, what: str
) -> None:
    answer, media_type = NOT_EVENTS[what]
    gateway.answer = lambda _: answer
    detail = await failed(client, path, 502)
    assert media_type in detail
    assert "ANTHROPIC_BASE_URL" in detail
    assert "internal" not in detail


@PATHS
@pytest.mark.parametrize("status", [302, 304, 308])
async def test_redirects_are_not_followed_and_the_error_names_the_setting(
    client: httpx.AsyncClient, gateway: Gateway, path: str, status: int
) -> None:
    with running_gateway(lambda _: whole("Got your prompt")) as other:
        location = f"{other.url}/v1/messages?token=secret"
        gateway.answer = lambda _: plain(f"{status} Moved", "text/html", b"", f"Location: {location}")
        detail = await failed(client, path, 502)
        assert "ANTHROPIC_BASE_URL" in detail
        assert "secret" not in detail
        assert other.url not in detail
        assert other.asked == []


async def test_health_follows_no_redirect_and_does_not_mistake_a_page_for_the_model_api(
    make_client: MakeClient, gateway: Gateway
) -> None:
    with running_gateway(lambda _: whole()) as other:
        for check, words in (
            (plain("302 Found", "text/html", b"", f"Location: {other.url}/"), "redirects"),
            (plain("200 OK", "text/html", b"<html>Sign in</html>"), "text/html"),
        ):
            gateway.check = check
            client = await make_client(anthropic_base_url=gateway.url)
            component = await _checked(client)
            assert component["status"] == "down"
            assert words in component["detail"]
        assert other.asked == []


async def _checked(client: httpx.AsyncClient) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while True:
            component: dict[str, Any] = (await client.get("/health")).json()["components"]["model_api"]
            if component["status"] != "unknown":
                return component
            await asyncio.sleep(0.02)


def error(kind: object, **more: object) -> bytes:
    return json.dumps({"type": "error", "error": {"type": kind, "message": "private words"}, **more}).encode()


REFUSALS = {
    "a page of a firewall": ("text/html", b"<html><h1>403 Forbidden</h1>request blocked</html>"),
    "nothing": ("text/plain", b""),
    "JSON of another form": ("application/json", b'{"error":{"message":"Authentication Error","type":"auth_error"}}'),
    "Anthropic's words in another form": ("application/json", b'{"error":{"type":"authentication_error"}}'),
    "another type of Anthropic's": ("application/json", error("invalid_request_error")),
    "a type that is no string": ("application/json", error(["permission_error"])),
    "a list": ("application/json", b'["permission_error"]'),
    "text": ("application/json", b'"authentication_error"'),
    "broken JSON": ("application/json", b'{"type":"error","error":{"type":"permission_error"'),
    "deep JSON": ("application/json", b'{"error":' * 5000),
}


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("what", REFUSALS)
async def test_a_refusal_not_from_anthropic_fails_one_request_and_leaves_the_pod_ready(
    client: httpx.AsyncClient, gateway: Gateway, status: int, what: str
) -> None:
    media_type, body = REFUSALS[what]
    refusal = plain(f"{status} No", media_type, body)
    gateway.answer = lambda asked: refusal if "<script>" in asked.message else whole()
    detail = await failed(client, "/chat", 502, "how do I escape <script>?")
    assert detail == f"Something between the agent and the model API refused the request ({status})."
    assert (await client.get("/health/ready")).status_code == 200
    assert (await said(client, "/chat"))["response"] == "Hello"
    metrics = (await client.get("/metrics")).text
    assert "agent_model_credentials_refused 0.0" in metrics
    assert 'agent_model_requests_total{model="claude-sonnet-5-5",outcome="refused"} 1.0' in metrics


@pytest.mark.parametrize(
    ("status", "kind"), [(401, "authentication_error"), (403, "permission_error"), (403, "authentication_error")]
)
async def test_a_refusal_from_anthropic_makes_the_pod_unready(
    client: httpx.AsyncClient, gateway: Gateway, status: int, kind: str
) -> None:
    gateway.answer = lambda _: plain(f"{status} No", "application/json", error(kind, request_id="req_1"))
    assert "credentials" in await failed(client, "/chat", 502)
    assert (await client.get("/health/ready")).json()["reason"] == "credentials refused"


async def test_a_check_that_a_firewall_refuses_leaves_the_pod_ready(make_client: MakeClient, gateway: Gateway) -> None:
    for status in (401, 403):
        gateway.check = plain(f"{status} No", "text/html", b"<html>blocked</html>")
        client = await make_client(anthropic_base_url=gateway.url)
        component = await _checked(client)
        assert (component["status"], component["kind"]) == ("down", "intercepted")
        assert (await client.get("/health/ready")).status_code == 200


async def test_an_upstream_error_message_reaches_the_log_but_no_caller(
    make_client: MakeClient, gateway: Gateway, capsys: pytest.CaptureFixture[str]
) -> None:
    client = await make_client(anthropic_base_url=gateway.url, anthropic_api_key="sk-of-the-agent-1")
    words = "deployment acme-eu at http://10.1.2.3:4000\n key sk-of-the-agent-1 of finance@acme.example has no budget"
    body = json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": words}}).encode()
    gateway.answer = lambda _: plain("400 Bad Request", "application/json", body)
    assert await failed(client, "/chat", 502) == "The model API refused the request (400)."
    logged = capsys.readouterr().out
    assert "http://10.1.2.3:4000" in logged
    assert "sk-of-the-agent-1" not in logged


@pytest.mark.parametrize("header", ["Retry-After", "Retry-After-Ms"])
@pytest.mark.parametrize(
    ("value", "shown"), [("inf", 3600), ("nan", 5), ("-5", 0), ("1e300", 3600), ("Wed, 21 Oct 2099 07:28:00 GMT", 3600)]
)
async def test_an_odd_retry_after_neither_delays_an_answer_nor_reaches_a_client_unsanitized(
    make_client: MakeClient, gateway: Gateway, header: str, value: str, shown: int
) -> None:
    """Retries are on, so obeying the header would delay the answer."""
    client = await make_client(anthropic_base_url=gateway.url, model_max_retries=1)
    gateway.answer = lambda _: plain(
        "429 Too Many", "application/json", error("rate_limit_error"), f"{header}: {value}"
    )
    async with asyncio.timeout(30):
        answer = await client.post("/chat", json={"message": "hello"})
    assert answer.status_code == 429
    # Retry-After-Ms takes no dates.
    assert int(answer.headers["Retry-After"]) == (5 if "GMT" in value and header == "Retry-After-Ms" else shown)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_an_answer_compressed_without_a_request_for_it_is_read(
    client: httpx.AsyncClient, gateway: Gateway, encoding: str
) -> None:
    body = sse(START, text("Hello"), DELTA, STOP)
    packed = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    gateway.answer = lambda _: plain("200 OK", "text/event-stream", packed, f"Content-Encoding: {encoding}")
    assert (await said(client, "/chat"))["response"] == "Hello"
    assert gateway.questions()[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip", "compress", "gzip, gzip", "x" * 100])
@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request"])
async def test_an_answer_that_cannot_be_decoded_is_502(
    client: httpx.AsyncClient, gateway: Gateway, encoding: str, status: str
) -> None:
    gateway.answer = lambda _: plain(
        status, "text/event-stream", b"\x81\x02 rubbish" * 20, f"Content-Encoding: {encoding}"
    )
    detail = await failed(client, "/chat", 502)
    assert "rubbish" not in detail


RUBBISH = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.9\r\n",
    "an alert of TLS": b"\x15\x03\x01\x00\x02\x02\x16",
    "a status that is none": b"HTTP/1.1 abc OK\r\n\r\n",
    "headers without end": HEAD[:-2] + b"X-Y: z\r\n" * 5000,
    "a long header": HEAD[:-2] + b"X-Y: " + b"z" * 100_000 + b"\r\n\r\n",
    "a length that is none": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
    "chunks that are none": HEAD.replace(b"Connection: close", b"Transfer-Encoding: chunked") + b"zzz\r\n",
}


@pytest.mark.parametrize("what", RUBBISH)
async def test_an_answer_that_is_not_http_is_502(client: httpx.AsyncClient, gateway: Gateway, what: str) -> None:
    gateway.answer = lambda _: RUBBISH[what]
    assert "zzz" not in await failed(client, "/chat", 502)


async def test_a_connection_closed_without_an_answer_is_reported_as_such(
    client: httpx.AsyncClient, gateway: Gateway
) -> None:
    gateway.answer = lambda _: b""
    assert "closed before there was an answer" in await failed(client, "/chat", 503)
