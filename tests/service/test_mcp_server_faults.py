"""Faults around the agent's MCP server, and what middleware and traces show of it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from stand_in import StandIn, asking
from support.agent import KEY, MakeClient, Service, StartService, running_service
from support.collector import Collector
from support.eventually import eventually, eventually_async
from support.mcp_agent import LIST, answer_in, as_sent, asked, mcp_client, said
from support.redis_server import RedisServer, running_redis
from support.tool_gateway import REVISIONS, Revision

TRACE, PARENT = "a" * 32, "b" * 16
EVENTS = 4


@pytest.fixture(scope="module")
def agent_process(
    stand_in_process: StandIn, own_redis: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    settings = {
        "API_MCP": "true",
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": stand_in_process.url,
        "REDIS_URL": own_redis.url,
        "RATE_LIMIT_REQUESTS": "0",
    }
    with running_service(tmp_path_factory.mktemp("agent"), **settings) as service:
        yield service


@pytest.fixture
def agent(agent_process: Service, stand_in: StandIn) -> Service:
    """Return an agent with a Redis of its own, shared by the tests of this file."""
    assert stand_in.requests() == []
    return agent_process


@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_disconnect_at_any_event_ends_the_turn(agent: Service, revision: Revision, stand_in: StandIn) -> None:
    body, headers = as_sent(revision, asked(asking("count", words=200, slow=0.1)))
    body["params"].setdefault("_meta", {})["progressToken"] = "a"
    async with httpx.AsyncClient(base_url=agent.url, headers=headers, timeout=60) as http:
        for count in range(1, EVENTS):
            async with http.stream("POST", "/mcp", json=body) as answer:
                events = 0
                async for line in answer.aiter_lines():
                    events += line.startswith("data: ")
                    if events == count:
                        break

    async def have_ended() -> bool:
        return [request["state"] for request in stand_in.requests()] == ["disconnected"] * (EVENTS - 1)

    await eventually_async(have_ended, "all turns have ended")
    eventually(lambda: agent.metric("agent_http_requests_in_flight") == 0, "no request is in flight")


@pytest.mark.parametrize("revision", REVISIONS)
async def test_without_redis_an_answer_has_a_warning(
    start_service: StartService, stand_in: StandIn, tmp_path: Path, revision: Revision
) -> None:
    with running_redis(tmp_path) as redis:
        settings = {"API_MCP": "true", "ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": stand_in.url}
        service = start_service(**settings, REDIS_URL=redis.url)
        async with mcp_client(service.url, revision) as client:
            message = {"message": asking("wait", hold="redis")}
            call = asyncio.create_task(client.call_tool("ask", message))

            async def is_asked() -> bool:
                return bool(stand_in.requests())

            await eventually_async(is_asked, "the model is asked")
            redis.kill()
            stand_in.release("redis")
            result = await call

    assert not result.is_error, said(result)
    assert "will not be remembered" in result.structured_content["warning"]


@pytest.mark.parametrize("revision", REVISIONS)
def test_the_turn_is_in_the_trace_of_the_caller(
    start_service: StartService, collector: Collector, revision: Revision
) -> None:
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    service = start_service(API_MCP="true", MODEL_PROVIDER="echo", **settings)
    body, headers = as_sent(revision, asked("hello"))
    headers["traceparent"] = f"00-{TRACE}-{PARENT}-01"
    assert answer_in(httpx.post(f"{service.url}/mcp", json=body, headers=headers).text)["result"]["isError"] is False

    eventually(lambda: len(collector.spans()) >= 2, "the spans of the request and of the turn arrive")
    spans = {span.span_id: span for span in collector.spans()}
    turn = next(span for span in spans.values() if not span.name.startswith("POST"))
    request = spans[turn.parent_span_id]
    assert request.name == "POST /mcp"
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT)


async def test_a_page_of_an_allowed_origin_can_use_the_agent(make_client: MakeClient) -> None:
    origin = "https://console.example"
    client = await make_client(api_mcp=True, model_provider="echo", cors_origins=origin)
    body, headers = as_sent("auto", LIST)
    asks = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": ",".join(name.lower() for name in [*headers, "Mcp-Session-Id"]),
    }
    preflight = await client.options("/mcp", headers=asks)
    answer = await client.post("/mcp", json=body, headers={**headers, "Origin": origin})

    assert preflight.status_code == 200, preflight.text
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == origin
    assert "Mcp-Session-Id" in answer.headers["access-control-expose-headers"]
