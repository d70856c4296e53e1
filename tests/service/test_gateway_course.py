"""The course of calls through the gateway: limits, retries, streams that end early, accounts, draining."""

import asyncio
import json
import signal
import time
from collections.abc import Callable
from typing import Any

import anthropic
import httpx
import openai
import pytest

from agent_service.agent.messages import Usage
from agent_service.agent.turns import Turn
from stand_in import StandIn, asking
from support.agent import KEY, StartService
from support.collector import Collector
from support.eventually import eventually, eventually_async
from support.runtime_gateway import MODEL, PLACEHOLDER, SDK_SECONDS, MakeGateway, RuntimeGateway, asked, chat
from testbed.ports import free_port

VERSION = {"anthropic-version": "2023-06-01", "content-type": "application/json"}


async def until(check: Callable[[], bool], what: str) -> None:
    async def checked() -> bool:
        return check()

    await eventually_async(checked, what)


def tokens(gateway: RuntimeGateway, direction: str) -> float:
    return gateway.sample("agent_tokens_total", model=MODEL, direction=direction)


def outcome(gateway: RuntimeGateway, name: str) -> float:
    return gateway.sample("agent_model_requests_total", model=MODEL, outcome=name)


async def test_a_loop_of_calls_stops_when_the_budget_is_used_up(make_gateway: MakeGateway, stand_in: StandIn) -> None:
    gateway = await make_gateway(budget_tokens=60)

    async def loop() -> None:
        for _ in range(20):
            await gateway.say("one two three four five six seven eight nine ten")

    with pytest.raises(anthropic.RateLimitError, match="budget is used up") as got:
        await loop()
    with pytest.raises(openai.RateLimitError, match="budget is used up"):
        await gateway.openai.chat.completions.create(**chat("Hello."))

    assert 1 < len(stand_in.requests()) < 6
    assert int(got.value.response.headers["retry-after"]) > 0
    # The SDKs do not retry what cannot succeed before the next period.
    assert got.value.response.headers["x-should-retry"] == "false"
    assert gateway.sample("agent_rate_limited_total", reason="budget") == 2


async def test_a_runtime_whose_sdk_retries_asks_once_when_the_budget_is_used_up(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(budget_tokens=1)
    await gateway.say("Hello.")

    with pytest.raises(anthropic.RateLimitError):
        await gateway.anthropic.with_options(max_retries=5).messages.create(**asked("Hello."))

    assert gateway.sample("agent_gateway_requests_total", route="/v1/messages", status="429") == 1


async def test_the_token_limit_throttles(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(tokens_per_minute=6)
    await gateway.say("one two three four five six seven eight nine ten")

    async def refused() -> bool:
        try:
            await gateway.say("Hello.")
        except anthropic.RateLimitError as error:
            return int(error.response.headers["retry-after"]) > 2 and "tokens per minute" in str(error)
        return False

    await eventually_async(refused, "the limit refuses a call")
    assert gateway.sample("agent_rate_limited_total", reason="tokens") >= 1


async def test_a_flood_is_refused_at_once(make_gateway: MakeGateway, stand_in: StandIn) -> None:
    gateway = await make_gateway(max_in_flight=3)
    held = [asyncio.create_task(gateway.say(asking(hold="flood"))) for _ in range(3)]
    await until(lambda: len(stand_in.requests()) == 3, "three calls are held")

    refused = await asyncio.gather(*(gateway.say("Hello.") for _ in range(50)), return_exceptions=True)
    assert all(isinstance(each, anthropic.RateLimitError) for each in refused)
    assert len(stand_in.requests()) == 3

    stand_in.release("flood")
    await asyncio.gather(*held)
    assert "Hello." in await gateway.say("Hello.")


async def test_a_body_that_is_too_large_is_refused(gateway: RuntimeGateway, stand_in: StandIn) -> None:
    with pytest.raises(anthropic.RequestTooLargeError):
        await gateway.say("x" * 33 * 2**20)

    async def parts() -> Any:
        for _ in range(33):
            yield b"x" * 2**20

    answer = await gateway.http.post("/v1/chat/completions", content=parts())
    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "request_too_large")
    assert stand_in.requests() == []


async def test_all_bodies_together_are_bounded(gateway: RuntimeGateway, stand_in: StandIn) -> None:
    def large(text: str) -> Any:
        data = {"type": "base64", "media_type": "image/png", "data": "A" * 20 * 2**20}
        return [{"type": "image", "source": data}, {"type": "text", "text": text}]

    held = [asyncio.create_task(gateway.say(large(asking(hold="bodies")))) for _ in range(3)]
    await until(lambda: len(stand_in.requests()) == 3, "three calls are held")

    with pytest.raises(anthropic.OverloadedError):
        await gateway.say(large("Hello."))

    stand_in.release("bodies")
    await asyncio.gather(*held)
    await gateway.say(large("Hello."))


@pytest.mark.parametrize("status", [429, 503, 529])
async def test_a_call_that_failed_before_its_answer_is_retried(
    make_gateway: MakeGateway, stand_in: StandIn, status: int
) -> None:
    gateway = await make_gateway(model_max_retries=2)

    assert "Hello." in await gateway.say(asking("Hello.", fault=status, times=2, id=f"retry-{status}"))
    assert [each["status"] for each in stand_in.requests()] == [status, status, 200]
    assert outcome(gateway, "ok") == 1


async def test_a_call_is_not_retried_if_the_model_api_wants_a_long_pause(
    make_gateway: MakeGateway, stand_in: StandIn
) -> None:
    gateway = await make_gateway(model_max_retries=2)

    with pytest.raises(anthropic.RateLimitError) as got:
        await gateway.say(asking(fault=429, retry_after=30, times=1, id="long"))

    assert got.value.response.headers["retry-after"] == "30"
    assert len(stand_in.requests()) == 1


async def test_an_answer_that_has_started_is_not_retried_but_broken_off(
    gateway: RuntimeGateway, stand_in: StandIn
) -> None:
    with pytest.raises(Exception, match=r"(?i)incomplete|peer|closed|disconnected"):
        async with gateway.anthropic.messages.stream(**asked(asking("Hello.", words=50, break_at=20))) as stream:
            await stream.get_final_message()

    assert len(stand_in.requests()) == 1
    assert outcome(gateway, "failed") == 1
    assert tokens(gateway, "input") > 0
    assert 10 < tokens(gateway, "output") < 60


async def test_a_runtime_that_leaves_ends_the_call_which_is_counted(gateway: RuntimeGateway, stand_in: StandIn) -> None:
    question = asked(asking("Hello.", words=500, slow=0.02), stream=True)
    async with gateway.http.stream("POST", "/v1/messages", json=question, headers=VERSION) as answer:
        received = b""
        async for piece in answer.aiter_bytes():
            received += piece
            if b"word5" in received:
                break

    await until(lambda: stand_in.last()["state"] == "disconnected", "the model API is left")
    await until(lambda: outcome(gateway, "cancelled") == 1, "the call is counted")
    assert tokens(gateway, "input") == len(question["messages"][0]["content"].split())
    assert 10 < tokens(gateway, "output") < 200
    assert gateway.components.lifecycle.calls == 0


async def test_a_runtime_that_leaves_before_the_answer_ends_the_call(
    gateway: RuntimeGateway, stand_in: StandIn
) -> None:
    call = asyncio.create_task(
        gateway.http.post("/v1/messages", json=asked(asking("Hello.", hold="never")), headers=VERSION)
    )
    await until(lambda: len(stand_in.requests()) == 1, "the model is asked")
    call.cancel()

    await until(lambda: stand_in.last()["state"] == "disconnected", "the model API is left")
    await until(lambda: outcome(gateway, "cancelled") == 1, "the call is counted")
    assert gateway.sample("agent_gateway_requests_total", route="/v1/messages", status="499") == 1


async def test_a_stream_arrives_as_the_model_sends_it(gateway: RuntimeGateway, stand_in: StandIn) -> None:
    question = asked(asking("Hello.", words=20, hold="stream", after=5), stream=True)
    received = b""
    async with gateway.http.stream("POST", "/v1/messages", json=question, headers=VERSION) as answer:
        async for piece in answer.aiter_bytes():
            received += piece
            # The rest is sent only after this much has arrived.
            if received.count(b"text_delta") == 5:
                stand_in.release("stream")

    assert received.endswith(b'{"type": "message_stop"}\n\n')


@pytest.mark.parametrize("by", ["baggage", "traceparent", "x-request-id"])
async def test_a_call_is_attributed_to_its_turn(gateway: RuntimeGateway, by: str) -> None:
    turn = Turn(Usage(), time.time() + 60, request_id="r-1", trace_id="a" * 32)
    other = Turn(Usage(), time.time() + 60, request_id="r-2", trace_id="b" * 32)
    headers = {
        "baggage": f"a=b, portside.turn={turn.id};p=1",
        "traceparent": f"00-{'a' * 32}-{'c' * 16}-01",
        "x-request-id": "r-1",
    }
    with gateway.components.turns.begin(turn), gateway.components.turns.begin(other):
        await gateway.say("one two three", extra_headers={by: headers[by]})
        await gateway.say("of no turn")

    assert turn.usage.uncached_tokens == 3
    assert turn.usage.output_tokens > 0
    assert other.usage == Usage()


async def test_a_call_is_a_span_in_the_trace_of_the_runtime(
    make_gateway: MakeGateway, collector: Collector, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    gateway = await make_gateway(otel_exporter_otlp_endpoint=collector.url)
    await gateway.say("one two three", extra_headers={"traceparent": f"00-{'a' * 32}-{'c' * 16}-01"})

    await until(lambda: any(span["name"] == f"chat {MODEL}" for span in collector.described()), "the span arrives")
    span = next(span for span in collector.described() if span["name"] == f"chat {MODEL}")
    assert (span["trace_id"], span["parent_id"]) == ("a" * 32, "c" * 16)
    assert span["attributes"]["gen_ai.usage.input_tokens"] == 3
    assert span["attributes"]["gen_ai.response.finish_reasons"] == ["end_turn"]
    # The model API is a third party.
    assert "traceparent" not in stand_in.last()["headers"]


async def test_a_model_api_without_marks_for_the_cache_gets_none(
    gateway: RuntimeGateway, monkeypatch: pytest.MonkeyPatch, stand_in: StandIn
) -> None:
    stand_in.behave(refuses_cache_control=True)

    assert "word" in await gateway.say("word " * 2000)
    assert "word" in await gateway.say("word " * 2000)
    assert [each["status"] for each in stand_in.requests()] == [400, 200, 200]


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_calls_in_flight_are_not_cut_by_sigterm(start_service: StartService, stand_in: StandIn, command: str) -> None:
    port = free_port()
    service = start_service(
        command=command, ANTHROPIC_API_KEY=KEY, ANTHROPIC_BASE_URL=stand_in.url, GATEWAY_PORT=str(port)
    )
    client = anthropic.Anthropic(
        base_url=f"http://127.0.0.1:{port}", api_key=PLACEHOLDER, max_retries=0, timeout=SDK_SECONDS
    )
    words = 0
    with client.messages.stream(**asked(asking("Hello.", words=50, hold=command, after=5))) as stream:
        for piece in stream.text_stream:
            words += len(piece.split())
            if words == 5:
                service.process.send_signal(signal.SIGTERM)
                eventually(lambda: draining(service.url), "the service drains")
                # A turn in progress may still need the model.
                assert client.messages.create(**asked("Hello.")).stop_reason == "end_turn"
                stand_in.release(command)
        assert stream.get_final_message().stop_reason == "end_turn"
    assert service.wait() == 0
    ended = next(json.loads(line) for line in service.log().splitlines() if "Draining ended" in line)
    assert ended["calls_cut"] == 0


def draining(url: str) -> bool:
    return httpx.get(f"{url}/health/ready").status_code == 503
