"""Other agents call an agent of ours by A2A: one of ours as its runtime, and those that do not read its card."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from a2a.client import ClientConfig, ClientFactory
from a2a.types.a2a_pb2 import AgentCapabilities, AgentCard, AgentInterface

from service.approvals import TEA, calling, calls
from stand_in import StandIn, asking
from support.a2a_client import RPC, collect, request
from support.agent import MakeClient, Service, running_service
from support.eventually import eventually
from support.mcp_servers import McpServer


@pytest.fixture
async def outer(make_client: MakeClient, service: Service) -> httpx.AsyncClient:
    """Return a client of an agent whose runtime is the service."""
    return await make_client(
        runtime_url=service.url,
        runtime_protocol="a2a",
        system_prompt="You are the outer one.",
        anthropic_api_key=None,
        state_prefix="outer",
    )


async def chat(client: httpx.AsyncClient, message: str, **more: str) -> dict[str, Any]:
    answer = await client.post("/chat", json={"message": message, **more}, timeout=60)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_the_inner_agent_answers_with_both_prompts_and_keeps_the_conversation(
    outer: httpx.AsyncClient, stand_in: StandIn
) -> None:
    first = await chat(outer, "My name is Ada, 🌍.")
    await chat(outer, "Who am I?", conversation_id=first["conversation_id"])

    assert "My name is Ada, 🌍." in first["response"]
    question = stand_in.last()
    assert question["system"] == "Be brief.\n\nYou are the outer one."
    assert question["history"] == ["user: My name is Ada, 🌍.", f"assistant: {first['response']}"]


async def test_the_inner_answer_is_streamed(outer: httpx.AsyncClient) -> None:
    answer = await outer.post("/chat/stream", json={"message": asking("Hello", words=6, slow=0.1)})
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]

    texts = [event["content"] for event in events if event["type"] == "text"]
    assert len(texts) > 1
    assert "".join(texts).endswith("word0 word1 word2 word3 word4 word5")
    assert events[-1]["type"] == "done"


async def test_an_error_of_the_inner_agent_is_one_of_the_outer(outer: httpx.AsyncClient) -> None:
    answer = await outer.post("/chat", json={"message": asking(fault=400)})

    assert answer.status_code == 502


@pytest.fixture(scope="module")
def inner(
    shared_settings: dict[str, str], server_process: McpServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Run an agent with a tool that needs an approval."""
    folder = tmp_path_factory.mktemp("inner")
    file = folder / "tools.json"
    tools = [{"name": "shop", "mcp": {"url": server_process.url}, "approve": ["sl*"]}]
    file.write_text(json.dumps({"tools": tools}), encoding="utf-8")
    with running_service(folder, **shared_settings, TOOLS_FILE=str(file), API_RUNS_TASKS="true") as running:
        yield running


async def test_a_call_of_the_inner_agent_waits_until_its_own_api_approves_it(
    make_client: MakeClient, inner: Service, stand_in: StandIn, server: McpServer
) -> None:
    outer = await make_client(
        runtime_url=inner.url, runtime_protocol="a2a", anthropic_api_key=None, state_prefix="outer"
    )

    asked = await chat(outer, calling([TEA]))
    assert "wait for an approval" in asked["response"]
    assert calls(server) == []
    # A text decides nothing: it is a further question.
    await chat(outer, "Yes, go on.", conversation_id=asked["conversation_id"])
    assert calls(server) == []


async def test_a_client_that_leaves_the_outer_agent_cancels_the_inner_task(
    make_client: MakeClient, service: Service, stand_in: StandIn, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = {"RUNTIME_URL": service.url, "RUNTIME_PROTOCOL": "a2a"}
    with running_service(tmp_path_factory.mktemp("outer"), REDIS_URL="", **settings) as outer:
        async with httpx.AsyncClient(base_url=outer.url, timeout=30) as web:
            body = {"message": asking("Hello", hold="left", after=2, words=8)}
            async with web.stream("POST", "/chat/stream", json=body) as answer:
                await anext(answer.aiter_lines())
        eventually(lambda: stand_in.last()["state"] != "running", "the model call of the inner agent ends")


@pytest.mark.parametrize("version", ["1.0", "0.3"])
@pytest.mark.parametrize("path", ["", "/"])
async def test_an_agent_that_does_not_read_the_card_posts_to_the_address_itself(
    service: Service, version: str, path: str
) -> None:
    interface = AgentInterface(url=service.url + path, protocol_binding=RPC, protocol_version=version)
    # kagent makes such a card for each of its agents.
    card = AgentCard(supported_interfaces=[interface], capabilities=AgentCapabilities(streaming=True))
    async with httpx.AsyncClient(timeout=60) as http:
        client = ClientFactory(ClientConfig(httpx_client=http)).create(card)
        received = await collect(client.send_message(request(asking("Hello", words=5))))

    assert received.state == "completed"
    assert received.text.endswith("word0 word1 word2 word3 word4")


async def test_without_a2a_nothing_is_posted_to_the_address_itself(make_client: MakeClient) -> None:
    agent = await make_client(api_a2a=False)
    call = {"jsonrpc": "2.0", "id": 1, "method": "ListTasks", "params": {}}

    assert [(await agent.post(path, json=call)).status_code for path in ("/", "/a2a")] == [405, 404]
    assert (await agent.get("/")).status_code == 200
