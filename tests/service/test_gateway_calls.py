"""The gateway as the official SDKs see it: the model API without its key."""

import asyncio
import json
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from stand_in import StandIn, asking
from support.agent import KEY, StartService, run_agent_service
from support.eventually import eventually
from support.runtime_gateway import MODEL, OTHER_MODEL, MakeGateway, RuntimeGateway, asked, chat
from testbed.ports import free_port

# All kinds of content, in an order and a notation that no serializer would produce.
BODY = (
    b'{ "stream":false,"max_tokens" : 77,\n"messages":[{"content":[{"type":"image","source":{"type":"base64",'
    b'"media_type":"image/png","data":"iVBORw0KGgo="}},{"text":"\\u00fcber \xc3\xa9 \\ud83d\\ude00 \\/",'
    b'"type":"text"}],"role":"user"}],"tools":[{"name":"t","input_schema":{"type":"object","z":1.0,"a":1e2}}],'
    b'"model":"claude-sonnet-5-5","thinking":{"type":"enabled","budget_tokens":1024},"unknown_field":[null, true] }'
)
VERSION = {"anthropic-version": "2023-06-01", "content-type": "application/json"}


async def test_the_anthropic_sdk_gets_an_answer(gateway: RuntimeGateway, stand_in: StandIn) -> None:
    answer = await gateway.anthropic.messages.create(**asked("Hello."))

    assert answer.usage.output_tokens == len(answer.content[0].text.split())
    assert 'heard "Hello."' in answer.content[0].text
    assert stand_in.last()["key"] == KEY[-4:]


async def test_the_anthropic_sdk_gets_a_stream(gateway: RuntimeGateway) -> None:
    async with gateway.anthropic.messages.stream(**asked(asking("Hello.", words=200, thinking=True))) as stream:
        text = "".join([piece async for piece in stream.text_stream])
        message = await stream.get_final_message()

    assert text.endswith("word199")
    assert message.stop_reason == "end_turn"
    assert message.content[0].type == "thinking"


async def test_tokens_are_counted_at_no_cost(gateway: RuntimeGateway) -> None:
    messages: Any = asked("one two three")["messages"]
    counted = await gateway.anthropic.messages.count_tokens(model=MODEL, messages=messages)

    assert counted.input_tokens == 3
    assert gateway.sample("agent_tokens_total", model=MODEL, direction="input") == 0


async def test_both_sdks_list_the_allowed_models(gateway: RuntimeGateway) -> None:
    assert [model.id async for model in gateway.anthropic.models.list()] == [MODEL, OTHER_MODEL]
    assert [model.id async for model in gateway.openai.models.list()] == [MODEL, OTHER_MODEL]
    assert (await gateway.anthropic.models.retrieve(OTHER_MODEL)).id == OTHER_MODEL
    assert (await gateway.openai.models.retrieve(OTHER_MODEL)).id == OTHER_MODEL
    with pytest.raises(anthropic.NotFoundError):
        await gateway.anthropic.models.retrieve("gpt-4")
    with pytest.raises(openai.NotFoundError):
        await gateway.openai.models.retrieve("gpt-4")


async def test_the_openai_sdk_gets_an_answer_and_a_stream(gateway: RuntimeGateway, stand_in: StandIn) -> None:
    whole = await gateway.openai.chat.completions.create(**chat("Hello."))
    options = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = [chunk async for chunk in await gateway.openai.chat.completions.create(**chat("Hello.", **options))]

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert stand_in.chats()[-1]["key"] == KEY[-4:]
    assert gateway.sample("agent_tokens_total", model=MODEL, direction="output") == 2 * len(text.split())


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
async def test_a_body_goes_through_byte_for_byte(gateway: RuntimeGateway, stand_in: StandIn, path: str) -> None:
    answer = await gateway.http.post(path, content=BODY, headers=VERSION)

    assert answer.status_code == 200, answer.text
    seen = (stand_in.requests() + stand_in.chats())[-1]
    assert seen["body"].encode() == BODY


async def test_only_the_headers_of_the_api_are_passed_on(gateway: RuntimeGateway, stand_in: StandIn) -> None:
    passed = {
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "context-1m-2025-08-07",
        "user-agent": "my-agent/1",
        "x-stainless-lang": "go",
    }
    dropped = {
        "x-api-key": "sk-of-the-runtime",
        "authorization": "Bearer sk-of-the-runtime",
        "cookie": "a=b",
        "baggage": "portside.turn=1",
        "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
        "x-request-id": "r-1",
        "x-forwarded-for": "10.0.0.1",
    }
    answer = await gateway.http.post("/v1/messages?beta=true", content=BODY, headers={**VERSION, **passed, **dropped})

    assert answer.status_code == 200
    seen = stand_in.last()
    assert {name: seen["headers"].get(name) for name in passed} == passed
    assert not seen["headers"].keys() & (dropped.keys() - {"x-api-key", "authorization"})
    assert (seen["query"], seen["key"], seen["headers"]["accept-encoding"]) == ("beta=true", KEY[-4:], "identity")
    assert answer.headers["request-id"].startswith("req_")


async def test_a_higher_limit_of_tokens_is_lowered(make_gateway: MakeGateway, stand_in: StandIn) -> None:
    gateway = await make_gateway(gateway_max_tokens=76)
    await gateway.http.post("/v1/messages", content=BODY, headers=VERSION)

    assert stand_in.last()["body"].encode() == BODY.replace(b"77", b"76")


async def test_a_long_conversation_is_marked_for_the_cache(make_gateway: MakeGateway, stand_in: StandIn) -> None:
    long = "word " * 2000
    for setting, marked in ((True, True), (False, False)):
        gateway = await make_gateway(gateway_prompt_caching=setting)
        await gateway.say(long)
        assert ("cache_control" in json.loads(stand_in.last()["body"])) is marked
        await gateway.say("short")
        assert "cache_control" not in stand_in.last()["body"]
        await gateway.openai.chat.completions.create(**chat(long))
        assert "cache_control" not in stand_in.chats()[-1]["body"]


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
async def test_each_sdk_raises_its_own_error_for_a_model_that_is_not_allowed(
    gateway: RuntimeGateway, stand_in: StandIn, kind: str
) -> None:
    if kind == "anthropic":
        call = gateway.anthropic.messages.create(**asked("Hello.", model="claude-else"))
    else:
        call = gateway.openai.chat.completions.create(**chat("Hello.", model="gpt-4"))

    allowed = f"may call: {MODEL}, {OTHER_MODEL}"
    with pytest.raises((anthropic.NotFoundError, openai.NotFoundError), match=allowed) as got:
        await call

    assert type(got.value).__module__.startswith(kind)
    assert stand_in.requests() == stand_in.chats() == []


@pytest.mark.parametrize("status", [400, 404, 413, 429, 500, 529])
async def test_errors_of_the_model_api_are_passed_on_unchanged(
    make_gateway: MakeGateway, stand_in: StandIn, status: int
) -> None:
    gateway = await make_gateway(model_max_retries=0)
    stand_in.behave(fault=status, retry_after=7)

    with pytest.raises(anthropic.APIStatusError) as got:
        await gateway.say("Hello.")
    with pytest.raises(openai.APIStatusError) as theirs:
        await gateway.openai.chat.completions.create(**chat("Hello."))

    assert got.value.status_code == theirs.value.status_code == status
    assert got.value.response.headers["retry-after"] == theirs.value.response.headers["retry-after"] == "7"
    assert got.value.request_id is not None
    assert got.value.request_id.startswith("req_")
    assert "asked to fail" in str(got.value)
    assert "asked to fail" in str(theirs.value)
    assert type(got.value) is not anthropic.APIStatusError


@pytest.mark.parametrize(("key", "status"), [("bad-key-000001", 401), ("forbidden-key-1", 403)])
async def test_a_refused_key_is_reported_as_such_and_never_quoted(
    make_gateway: MakeGateway, key: str, status: int
) -> None:
    gateway = await make_gateway(anthropic_api_key=key)

    with pytest.raises((anthropic.AuthenticationError, anthropic.PermissionDeniedError)) as got:
        await gateway.say("Hello.")
    with pytest.raises((openai.AuthenticationError, openai.PermissionDeniedError)) as theirs:
        await gateway.openai.chat.completions.create(**chat("Hello."))

    assert got.value.status_code == theirs.value.status_code == status
    for error in (got.value, theirs.value):
        assert "did not accept the agent's credentials" in str(error)
        assert key not in error.response.text
    assert gateway.sample("agent_model_credentials_refused") == 1
    assert gateway.sample("agent_model_requests_total", model=MODEL, outcome="credentials_refused") == 2


async def test_a_model_api_that_cannot_be_reached_is_an_error_in_the_apis_form(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(anthropic_base_url=f"http://127.0.0.1:{free_port()}", model_max_retries=0)

    with pytest.raises(anthropic.InternalServerError, match="refused the connection"):
        await gateway.say("Hello.")
    with pytest.raises(openai.InternalServerError, match="refused the connection"):
        await gateway.openai.chat.completions.create(**chat("Hello."))
    assert gateway.sample("agent_model_requests_total", model=MODEL, outcome="unreachable") == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a JSON object"),
        (b"[1]", "not a JSON object"),
        (b"{}", "model"),
        (b'{"model":"a","model":"b"}', "more"),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused(gateway: RuntimeGateway, content: bytes, words: str) -> None:
    answer = await gateway.http.post("/v1/messages", content=content, headers=VERSION)

    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert words in answer.json()["error"]["message"]


async def test_a_compressed_body_is_refused(gateway: RuntimeGateway) -> None:
    answer = await gateway.http.post("/v1/messages", content=BODY, headers={**VERSION, "content-encoding": "gzip"})

    assert answer.status_code == 415


async def test_a_client_that_sends_its_body_slowly_is_not_cut_off_by_a_refusal(gateway: RuntimeGateway) -> None:
    head = f"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(BODY)}\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.http.base_url.port)
    writer.write(f"{head}Content-Encoding: gzip\r\n\r\n".encode())
    assert b" 415 " in await reader.readuntil(b"\r\n\r\n")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(), 2)
    writer.write(BODY + b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def test_other_routes_are_not_found_in_the_apis_form(gateway: RuntimeGateway) -> None:
    for method, path in (
        ("GET", "/"),
        ("GET", "/v1/messages"),
        ("POST", "/v1/messages/batches"),
        ("DELETE", "/v1/models"),
    ):
        answer = await gateway.http.request(method, path, headers={"anthropic-version": "2023-06-01"})
        assert (answer.status_code, answer.json()["type"]) == (404, "error")
    assert (await gateway.http.get("/health")).json() == {"status": "ok"}
    assert gateway.sample("agent_gateway_requests_total", route="unmatched", status="404") == 2
    assert gateway.sample("agent_gateway_requests_total", route="/v1/messages", status="404") == 1


async def test_requests_of_browsers_are_refused(gateway: RuntimeGateway, stand_in: StandIn) -> None:
    rebound = await gateway.http.post("/v1/messages", content=BODY, headers={**VERSION, "host": "evil.example:80"})
    of_page = await gateway.http.post(
        "/v1/messages", content=BODY, headers={**VERSION, "origin": "http://evil.example"}
    )

    assert (rebound.status_code, of_page.status_code) == (421, 403)
    assert stand_in.requests() == []
    for host in ("localhost:1", "LOCALHOST", "[::1]:8089", "127.0.0.1"):
        assert (await gateway.http.get("/health", headers={"host": host})).status_code == 200


async def test_the_gateway_listens_on_no_other_address(gateway: RuntimeGateway) -> None:
    port = int(gateway.url.rpartition(":")[2])

    for address in addresses_of_this_machine():
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as other:
            other.settimeout(5)
            assert other.connect_ex((address, port)) != 0, address


def test_a_port_in_use_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for command in ("serve", "worker"):
            settings = {"MODEL_PROVIDER": "echo", "GATEWAY_PORT": str(port), "REDIS_URL": "redis://127.0.0.1:1/0"}
            done = run_agent_service(command, "--port", "0", folder=tmp_path, **settings)
            assert done.returncode == 1
            assert f"Port {port} is in use" in done.stderr
            assert "GATEWAY_PORT" in done.stderr


def test_several_processes_share_the_port(start_service: StartService, stand_in: StandIn) -> None:
    port = free_port()
    start_service(
        ANTHROPIC_API_KEY=KEY,
        ANTHROPIC_BASE_URL=stand_in.url,
        GATEWAY_PORT=str(port),
        API_WORKERS="2",
        RATE_LIMIT_REQUESTS="0",
    )
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        return httpx.post(f"{url}/v1/messages", content=BODY, headers=VERSION).status_code == 200

    eventually(answers, "the gateway answers")


class TestEcho:
    """With MODEL_PROVIDER=echo everything can be tried without a key."""

    @pytest.fixture
    async def gateway(self, make_gateway: MakeGateway) -> RuntimeGateway:
        return await make_gateway(model_provider="echo")

    async def test_the_anthropic_sdk_gets_an_answer_and_a_stream(self, gateway: RuntimeGateway) -> None:
        assert await gateway.say("Hello there.") == "You said: Hello there."
        async with gateway.anthropic.messages.stream(**asked("Hello there.")) as stream:
            text = "".join([piece async for piece in stream.text_stream])
            message = await stream.get_final_message()
        assert (text, message.stop_reason) == ("You said: Hello there.", "end_turn")
        assert message.usage.output_tokens > 0
        messages: Any = asked("Hello there.")["messages"]
        assert (await gateway.anthropic.messages.count_tokens(model="echo", messages=messages)).input_tokens == 3
        assert gateway.sample("agent_model_requests_total", model=MODEL, outcome="ok") == 2

    async def test_the_openai_sdk_gets_an_answer_and_a_stream(self, gateway: RuntimeGateway) -> None:
        whole = await gateway.openai.chat.completions.create(**chat("Hello there.", model="echo"))
        chunks = [
            chunk async for chunk in await gateway.openai.chat.completions.create(**chat("Hello there.", stream=True))
        ]
        assert whole.choices[0].message.content == "You said: Hello there."
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == "You said: Hello there."

    async def test_a_question_without_a_message_is_refused(self, gateway: RuntimeGateway) -> None:
        with pytest.raises(anthropic.BadRequestError):
            await gateway.anthropic.messages.create(model=MODEL, max_tokens=5, messages=[])


def addresses_of_this_machine() -> set[str]:
    """Return other addresses of this machine: further ones of loopback, and that of its name and default route."""
    found = {"127.0.0.2", "::1", *(str(each[4][0]) for each in socket.getaddrinfo(socket.gethostname(), None))}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        # No packet is sent: the kernel only chooses the address (TEST-NET-1, RFC 5737).
        probe.connect(("192.0.2.1", 9))
        found.add(probe.getsockname()[0])
    return found - {"127.0.0.1"}
