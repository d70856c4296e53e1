"""Limits and the end of a process, for MCP clients: what is an error of the tool, and what one of the protocol."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from stand_in import StandIn, asking
from support.agent import KEY, Service, StartService
from support.eventually import eventually_async
from support.mcp_agent import LIST, answer_in, as_sent, asked, mcp_client, said
from support.tool_gateway import REVISIONS, Revision


@pytest.fixture
def start(start_service: StartService, stand_in: StandIn) -> StartService:
    """Return a function that starts an agent for MCP clients in front of the stand-in."""
    settings = {"API_MCP": "true", "ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": stand_in.url}
    return lambda **more: start_service(**{**settings, **more})


def post(service: Service, revision: Revision, body: dict[str, Any]) -> httpx.Response:
    sent, headers = as_sent(revision, body)
    return httpx.post(f"{service.url}/mcp", json=sent, headers=headers, timeout=60)


@pytest.mark.parametrize(
    "limit",
    [
        {"TOKENS_PER_MINUTE": "1"},
        {"BUDGET_TOKENS": "1", "BUDGET_ACTION": "stop"},
    ],
)
async def test_without_tokens_the_tool_is_listed_and_its_calls_are_errors(
    start: StartService, stand_in: StandIn, limit: dict[str, str]
) -> None:
    service = start(**limit, RATE_LIMIT_REQUESTS="0")
    async with mcp_client(service.url) as client:
        assert not (await client.call_tool("ask", {"message": "the first"})).is_error

        async def is_refused() -> str:
            result = await client.call_tool("ask", {"message": "more"})
            return said(result) if result.is_error else ""

        sentence = await eventually_async(is_refused, "the usage is counted")
    used = len(stand_in.requests())
    for revision in REVISIONS:
        async with mcp_client(service.url, revision) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == ["ask"]
            assert said(await client.call_tool("ask", {"message": "more"})).split(";")[0] == sentence.split(";")[0]

    assert sentence.startswith("This agent has used up its ")
    assert sentence.endswith(" s.")
    assert len(stand_in.requests()) == used
    kind = "tokens" if "TOKENS_PER_MINUTE" in limit else "budget"
    assert service.metric(f'agent_rate_limited_total{{reason="{kind}"}}') >= 3


@pytest.mark.parametrize("revision", REVISIONS)
def test_too_many_requests_are_refused_with_the_time_to_wait(start: StartService, revision: Revision) -> None:
    service = start(RATE_LIMIT_REQUESTS="2")
    answers = [post(service, revision, LIST) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert int(answers[-1].headers["retry-after"]) > 0
    error = answers[-1].json()["error"]
    assert "You may send 2 requests per minute" in error["message"]
    assert error["data"]["retryAfter"] == int(answers[-1].headers["retry-after"])


@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_process_that_ends_finishes_its_answers_and_takes_no_new_ones(
    start: StartService, stand_in: StandIn, revision: Revision
) -> None:
    service = start()
    body, headers = as_sent(revision, asked(asking("wait", hold="drain")))
    # The server answers new requests only on connections that are open.
    async with httpx.AsyncClient(base_url=service.url, timeout=60, headers=headers) as http:
        listing, list_headers = as_sent(revision, LIST)
        assert (await http.post("/mcp", json=listing, headers=list_headers)).status_code == 200
        call = asyncio.create_task(http.post("/mcp", json=body))

        async def is_asked() -> bool:
            return len(stand_in.requests()) == 1

        await eventually_async(is_asked, "the model is asked")
        refused = asyncio.create_task(_refused(http, listing, list_headers))
        service.terminate()
        answer = await refused
        stand_in.release("drain")
        assert answer_in((await call).text)["result"]["isError"] is False

    assert answer is None or answer.json()["error"]["message"].startswith("This instance is shutting down")
    assert await asyncio.to_thread(service.wait) == 0
    assert "Traceback" not in service.log()


async def _refused(http: httpx.AsyncClient, body: dict[str, Any], headers: dict[str, str]) -> httpx.Response | None:
    """Send requests until one is refused, and return its answer; None if there is no connection any more."""

    async def refusal() -> list[httpx.Response | None]:
        try:
            answer = await http.post("/mcp", json=body, headers=headers)
        except httpx.TransportError:
            return [None]
        return [answer] if answer.status_code == 503 else []

    (found,) = await eventually_async(refusal, "a request is refused")
    return found


async def test_several_processes_of_one_port_answer_any_request(start: StartService) -> None:
    service = start(API_WORKERS="2", MODEL_PROVIDER="echo", RATE_LIMIT_REQUESTS="0")
    for revision in REVISIONS:
        conversation: dict[str, str] = {}
        for number in range(6):
            # A new connection each time, which either process may get.
            async with mcp_client(service.url, revision) as client:
                result = await client.call_tool("ask", {"message": f"message {number}", **conversation})
            conversation = {"conversation_id": result.structured_content["conversation_id"]}
            assert json.loads(said(result))["response"] == f"You said: message {number}"
