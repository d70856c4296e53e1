"""An agent with providers that are asked in order: its own at one stand-in, and Foundry at another."""

import asyncio
import json
import uuid
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import httpx2
import pytest

from agent_service.agent.fallbacks import circuit
from stand_in import StandIn, asking, running_stand_in
from support.agent import MakeClient
from support.clouds.bedrock import REGION, Account, running_bedrock
from support.clouds.foundry import Resource, running_foundry
from support.clouds.server import CloudServer
from support.clouds.vertex import PROJECT, ServiceAccount, running_vertex
from support.clouds.vertex import REGION as LOCATION
from support.eventually import eventually_async
from support.runtime_gateway import MODEL, OTHER_MODEL, MakeGateway, asked, chat

DEPLOYMENT = "our-deployment"
API_KEY = "foundry-key-0123456789"
SMALL = "claude-small"


@pytest.fixture(scope="module")
def own_process() -> Iterator[StandIn]:
    with running_stand_in() as own:
        yield own


@pytest.fixture
def own(own_process: StandIn) -> StandIn:
    """Return the stand-in for the agent's own provider, after a reset."""
    own_process.reset()
    return own_process


@pytest.fixture
def resource() -> Resource:
    return Resource({API_KEY}, {DEPLOYMENT})


@pytest.fixture
def foundry(resource: Resource, stand_in: StandIn) -> Iterator[CloudServer]:
    with running_foundry(resource, stand_in.url) as server:
        yield server


def fallback(foundry: CloudServer, **given: object) -> dict[str, object]:
    block = {"baseUrl": foundry.url, "modelIds": {MODEL: DEPLOYMENT, SMALL: DEPLOYMENT}}
    return {"provider": "foundry", "foundry": block, **given}


@pytest.fixture
def settings(own: StandIn, foundry: CloudServer) -> dict[str, object]:
    return {
        "anthropic_base_url": own.url,
        "model_fallbacks": json.dumps([fallback(foundry)]),
        "anthropic_foundry_api_key": API_KEY,
        "state_prefix": f"fallbacks/{uuid.uuid4().hex}",
    }


async def answered_by(client: httpx.AsyncClient, message: str = "hello", **more: object) -> str:
    """Return the provider that answered a message."""
    found = await client.post("/chat", json={"message": message, **more})
    assert found.status_code == 200, found.text
    provider: str = found.json()["provider"]
    return provider


async def metric(client: httpx.AsyncClient, sample: str) -> float:
    text = (await client.get("/metrics")).text
    return float(next((line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(sample + " ")), "0"))


async def test_the_agents_own_provider_answers_while_it_can(
    make_client: MakeClient, stand_in: StandIn, settings: dict[str, object]
) -> None:
    client = await make_client(**settings)
    answer = (await client.post("/chat", json={"message": "hello"})).json()

    assert (answer["provider"], answer["model"]) == ("anthropic", MODEL)
    assert stand_in.requests() == []


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        *((429, "rate_limited"), (500, "failed"), (529, "overloaded"), (504, "timed_out")),
        *((401, "credentials_refused"), (404, "not_offered")),
    ],
)
async def test_a_provider_that_does_not_answer_is_asked_once_and_then_the_next(
    make_client: MakeClient,
    own: StandIn,
    stand_in: StandIn,
    settings: dict[str, object],
    *,
    fault: int,
    reason: str,
) -> None:
    own.behave(fault=fault)
    client = await make_client(**settings)

    assert await answered_by(client) == "foundry"
    assert len(own.requests()) == len(stand_in.requests()) == 1
    labels = f'from="anthropic",reason="{reason}",to="foundry"'
    assert await metric(client, f"agent_model_fallbacks_total{{{labels}}}") == 1
    assert await metric(client, f'agent_model_requests_total{{model="{MODEL}",outcome="ok"}}') == 1


@pytest.mark.parametrize("behaviour", [{"fault": 400}, {"fault": 413}, {"too_long": True}, {"refusal": True}])
async def test_a_question_that_is_refused_is_not_asked_elsewhere(
    make_client: MakeClient, own: StandIn, stand_in: StandIn, settings: dict[str, object], behaviour: dict[str, Any]
) -> None:
    own.behave(**behaviour)
    client = await make_client(**settings)
    found = await client.post("/chat", json={"message": "hello"})

    assert found.status_code >= 400
    assert stand_in.requests() == []


async def test_refused_connections_and_the_recovery(
    make_client: MakeClient,
    own: StandIn,
    stand_in: StandIn,
    settings: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(circuit, "SKIP_SECONDS", 0.2)
    own.behave(break_at=0)
    client = await make_client(**{**settings, "anthropic_base_url": "http://127.0.0.1:9"})
    assert await answered_by(client) == "foundry"
    failing = 'agent_model_provider_failing{provider="anthropic"}'
    assert await metric(client, failing) == 1

    own.behave(fault=500)
    client = await make_client(**settings)
    for _ in range(3):
        assert await answered_by(client) == "foundry"
    assert await metric(client, failing) == 1
    own.behave()

    async def recovered() -> bool:
        return await answered_by(client) == "anthropic"

    await eventually_async(recovered, "the agent's own provider is asked again")
    assert await metric(client, failing) == 0


async def test_a_provider_that_does_not_begin_in_time_is_given_up(
    make_client: MakeClient, own: StandIn, settings: dict[str, object]
) -> None:
    own.behave(hold="forever")
    client = await make_client(**settings, model_fallback_seconds=0.5)

    assert await answered_by(client) == "foundry"

    async def left() -> bool:
        return bool(own.last()["state"] == "disconnected")

    await eventually_async(left, "the call that is given up is ended")
    # It may have been read, so its prompt is counted.
    assert await metric(client, 'agent_model_fallbacks_total{from="anthropic",reason="timed_out",to="foundry"}') == 1


async def test_an_error_before_the_first_content_is_not_the_end(
    make_client: MakeClient, own: StandIn, settings: dict[str, object]
) -> None:
    own.behave(error="overloaded_error", after=0)
    client = await make_client(**settings)

    assert await answered_by(client) == "foundry"


@pytest.mark.parametrize("behaviour", [{"error": "overloaded_error", "after": 2}, {"break_at": 2}])
async def test_an_error_in_the_middle_of_an_answer_is_reported_and_nothing_is_repeated(
    make_client: MakeClient, own: StandIn, stand_in: StandIn, settings: dict[str, object], behaviour: dict[str, Any]
) -> None:
    own.behave(**behaviour)
    client = await make_client(**settings)
    text = (await client.post("/chat/stream", json={"message": "hello"})).text
    events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]

    assert events[0]["type"] == "text"
    assert events[-1]["type"] == "error"
    assert stand_in.requests() == []


async def test_a_stream_says_which_provider_answered(
    make_client: MakeClient, own: StandIn, settings: dict[str, object]
) -> None:
    own.behave(fault=529)
    client = await make_client(**settings)
    text = (await client.post("/chat/stream", json={"message": "hello"})).text
    done = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")][-1]

    assert (done["type"], done["provider"], done["model"]) == ("done", "foundry", MODEL)


async def test_answers_in_the_forms_of_other_apis_say_which_provider_answered(
    make_client: MakeClient, own: StandIn, settings: dict[str, object]
) -> None:
    own.behave(fault=529)
    client = await make_client(**settings)
    of_openai = (await client.post("/v1/chat/completions", json=chat("hello"))).json()
    of_anthropic = await client.post("/v1/messages", json=asked("hello"))

    assert (of_openai["portside"]["provider"], of_openai["portside"]["model"]) == ("foundry", MODEL)
    assert of_anthropic.headers["X-Portside-Provider"] == "foundry"


async def test_a_task_says_which_provider_answered(
    make_client: MakeClient, own: StandIn, settings: dict[str, object]
) -> None:
    own.behave(fault=529)
    client = await make_client(**settings, api_runs_tasks=True)
    task = (await client.post("/tasks", json={"message": "hello"})).json()["task_id"]

    async def result() -> Any:
        return (await client.get(f"/tasks/{task}")).json()["result"]

    found = await eventually_async(result, "the task is completed")
    assert (found["provider"], found["model"]) == ("foundry", MODEL)


async def test_when_all_fail_the_error_is_that_of_the_first_and_the_last_is_retried(
    make_client: MakeClient, own: StandIn, stand_in: StandIn, settings: dict[str, object]
) -> None:
    own.behave(fault=529)
    stand_in.behave(fault=500)
    client = await make_client(**settings)
    found = await client.post("/chat", json={"message": "hello"})

    assert found.status_code == 503
    assert "overloaded" in found.json()["detail"]
    assert (len(own.requests()), len(stand_in.requests())) == (1, 2)


async def test_a_conversation_with_a_cached_prefix_stays_with_the_fallback(
    make_client: MakeClient, own: StandIn, settings: dict[str, object]
) -> None:
    own.behave(fault=529)
    client = await make_client(**settings)
    first = (await client.post("/chat", json={"message": asking("hello", cached=2000)})).json()
    assert first["provider"] == "foundry"
    own.behave()

    assert await answered_by(client, asking("more", cached=2000), conversation_id=first["conversation_id"]) == "foundry"
    assert await answered_by(client) == "anthropic"


async def test_a_conversation_without_a_cached_prefix_returns_to_the_agents_own_provider(
    make_client: MakeClient, own: StandIn, settings: dict[str, object]
) -> None:
    own.behave(fault=529)
    client = await make_client(**settings)
    first = (await client.post("/chat", json={"message": "hello"})).json()
    own.behave()

    assert first["provider"] == "foundry"
    assert await answered_by(client, conversation_id=first["conversation_id"]) == "anthropic"


async def test_a_client_that_leaves_while_a_fallback_is_asked_ends_the_call(
    make_client: MakeClient, own: StandIn, stand_in: StandIn, settings: dict[str, object]
) -> None:
    own.behave(fault=529)
    stand_in.behave(hold="forever")
    direct = json.dumps([{"provider": "anthropic", "baseUrl": stand_in.url}])
    client = await make_client(**{**settings, "model_fallbacks": direct})
    request = asyncio.create_task(client.post("/chat", json={"message": "hello"}))

    async def arrived() -> bool:
        return len(stand_in.requests()) == 1

    await eventually_async(arrived, "the fallback is asked")
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)

    async def left() -> bool:
        return bool(stand_in.last()["state"] == "disconnected")

    await eventually_async(left, "the call of the fallback is ended")
    own.behave()
    assert await answered_by(client) == "anthropic"


async def test_the_budget_counts_the_prices_of_the_provider_that_answered(
    make_client: MakeClient, own: StandIn, foundry: CloudServer, settings: dict[str, object]
) -> None:
    prices = {"input": "1000", "output": "0"}
    settings["model_fallbacks"] = json.dumps([fallback(foundry, model=SMALL, prices=prices)])
    client = await make_client(**settings, budget_cost="1000000", price_input="1", price_output="0")

    async def cost() -> float:
        return await metric(client, "agent_budget_used_cost")

    await answered_by(client, asking("hello", cached=1000))
    await eventually_async(lambda: _at(cost, lambda found: 0 < found < 1), "the own price is counted")
    own.behave(fault=529)
    answer = (await client.post("/chat", json={"message": asking("hello", cached=1000)})).json()
    assert answer["model"] == SMALL
    await eventually_async(lambda: _at(cost, lambda found: 1 < found < 2), "the price of the fallback is counted")


async def _at(value: Any, holds: Any) -> bool:
    return bool(holds(await value()))


async def test_health_names_the_own_provider_while_a_fallback_answers(
    make_client: MakeClient, settings: dict[str, object]
) -> None:
    client = await make_client(**{**settings, "anthropic_base_url": "http://127.0.0.1:9"})

    async def seen() -> bool:
        health = await client.get("/health")
        parts = health.json()["components"]
        return bool(parts["model_api"]["status"] == "up" and parts["model_primary"]["status"] == "down")

    await eventually_async(seen, "the fallback is up and the own provider down")
    assert (await client.get("/health/ready")).status_code == 200
    sample = 'agent_dependency_up{component="model_primary"}'

    async def published() -> bool:
        return "agent_dependency_failing" in (await client.get("/metrics")).text and await metric(client, sample) == 0

    await eventually_async(published, "it is published")


async def test_a_pod_is_ready_until_the_credentials_of_all_providers_are_refused(
    make_client: MakeClient, own: StandIn, resource: Resource, settings: dict[str, object]
) -> None:
    own.behave(fault=401)
    client = await make_client(**settings)
    assert await answered_by(client) == "foundry"
    assert (await client.get("/health/ready")).status_code == 200

    resource.api_keys.clear()
    assert (await client.post("/chat", json={"message": "hello"})).status_code == 502
    assert (await client.get("/health/ready")).json()["reason"] == "credentials refused"


async def test_a_runtime_gets_the_answer_of_the_next_provider(
    make_gateway: MakeGateway, own: StandIn, stand_in: StandIn, settings: dict[str, object]
) -> None:
    own.behave(fault=529)
    gateway = await make_gateway(**settings)
    found = await gateway.anthropic.messages.with_raw_response.create(**asked("hello"))

    assert found.headers["X-Portside-Provider"] == "foundry"
    assert stand_in.last()["model"] == DEPLOYMENT
    assert len(own.requests()) == 1
    assert gateway.sample("agent_model_requests_total", model=MODEL, outcome="ok") == 1


@pytest.mark.parametrize(
    "behaviour",
    [{"fault": 401}, {"fault": 404}, {"fault": 429}, {"error": "overloaded_error", "after": 0}, {"hold": "forever"}],
)
async def test_a_stream_of_a_runtime_begins_at_the_provider_that_can(
    make_gateway: MakeGateway, own: StandIn, settings: dict[str, object], behaviour: dict[str, Any]
) -> None:
    own.behave(**behaviour)
    gateway = await make_gateway(**settings, model_fallback_seconds=0.5)
    async with gateway.anthropic.messages.stream(**asked("hello")) as stream:
        assert 'heard "hello"' in await stream.get_final_text()


@pytest.mark.parametrize("behaviour", [{"break_at": 0}, {"end_at": 0}])
async def test_a_stream_of_a_runtime_that_breaks_off_before_its_content_is_asked_elsewhere(
    make_gateway: MakeGateway, own: StandIn, settings: dict[str, object], behaviour: dict[str, Any]
) -> None:
    own.behave(**behaviour)
    gateway = await make_gateway(**settings)
    async with gateway.anthropic.messages.stream(**asked("hello")) as stream:
        assert 'heard "hello"' in await stream.get_final_text()


@pytest.mark.parametrize("behaviour", [{"refusal": True}, {"error": "invalid_request_error", "after": 0}])
async def test_a_stream_of_a_runtime_that_ends_with_a_refusal_is_not_asked_elsewhere(
    make_gateway: MakeGateway, own: StandIn, stand_in: StandIn, settings: dict[str, object], behaviour: dict[str, Any]
) -> None:
    own.behave(**behaviour)
    gateway = await make_gateway(**settings)
    text = (await gateway.http.post("/v1/messages", json=asked("hello", stream=True))).text

    assert '"refusal"' in text or "invalid_request_error" in text
    assert stand_in.requests() == []


async def test_a_model_that_a_provider_lacks_is_no_reason_to_skip_its_own(
    make_gateway: MakeGateway, own: StandIn, settings: dict[str, object]
) -> None:
    own.behave(fault=404)
    gateway = await make_gateway(**settings)
    with pytest.raises(anthropic.NotFoundError):
        await gateway.say("hello", model=OTHER_MODEL)
    own.reset()

    await gateway.say("hello")
    assert len(own.requests()) == 1
    assert gateway.sample("agent_model_provider_failing", provider="anthropic") == 0


@pytest.mark.parametrize("behaviour", [{"error": "overloaded_error", "after": 2}, {"break_at": 2}])
async def test_a_stream_of_a_runtime_that_breaks_off_is_not_repeated(
    make_gateway: MakeGateway, own: StandIn, stand_in: StandIn, settings: dict[str, object], behaviour: dict[str, Any]
) -> None:
    own.behave(**behaviour)
    gateway = await make_gateway(**settings)
    words = 0

    async def read() -> None:
        nonlocal words
        async with gateway.anthropic.messages.stream(**asked("hello")) as stream:
            async for text in stream.text_stream:
                words += len(text.split())

    with pytest.raises((anthropic.APIError, httpx2.HTTPError)):
        await read()

    assert words == 2
    assert stand_in.requests() == []


async def test_a_runtime_gets_the_error_of_the_first_provider_when_all_fail(
    make_gateway: MakeGateway, own: StandIn, stand_in: StandIn, settings: dict[str, object]
) -> None:
    own.behave(fault=529)
    stand_in.behave(fault=500)
    gateway = await make_gateway(**settings)
    with pytest.raises(anthropic.APIStatusError) as caught:
        await gateway.say("hello")

    assert caught.value.status_code == 529


async def test_a_runtime_gets_a_refusal_of_its_question_as_it_is(
    make_gateway: MakeGateway, own: StandIn, stand_in: StandIn, settings: dict[str, object]
) -> None:
    own.behave(fault=400)
    gateway = await make_gateway(**settings)
    with pytest.raises(anthropic.BadRequestError):
        await gateway.say("hello")

    assert stand_in.requests() == []


async def test_another_model_of_the_same_provider_stands_in_for_the_agents(
    make_gateway: MakeGateway, own: StandIn, stand_in: StandIn, settings: dict[str, object]
) -> None:
    entry = {"provider": "anthropic", "baseUrl": stand_in.url, "model": SMALL}
    own.behave(fault=529)
    gateway = await make_gateway(**{**settings, "model_fallbacks": json.dumps([entry])})

    assert SMALL in await gateway.say("hello")
    assert stand_in.last()["model"] == SMALL
    assert gateway.sample("agent_model_requests_total", model=SMALL, outcome="ok") == 1
    answers = {"provider": "anthropic-2", "model": SMALL}
    assert gateway.sample("agent_model_provider_answers_total", **answers) == 1


async def test_a_long_prefix_of_a_runtime_stays_with_the_fallback(
    make_gateway: MakeGateway, own: StandIn, stand_in: StandIn, settings: dict[str, object]
) -> None:
    own.behave(fault=529)
    gateway = await make_gateway(**settings)
    system = "Be brief. " * 500
    await gateway.anthropic.messages.create(**asked("hello"), system=system)
    own.behave()
    own_calls = len(own.requests())
    await gateway.anthropic.messages.create(**asked("hello"), system=system)

    assert len(own.requests()) == own_calls
    assert len(stand_in.requests()) == 2


async def test_tokens_are_counted_by_the_next_provider(make_gateway: MakeGateway, settings: dict[str, object]) -> None:
    gateway = await make_gateway(**{**settings, "anthropic_base_url": "http://127.0.0.1:9"})
    question = {"model": MODEL, "messages": asked("hello")["messages"]}
    assert (await gateway.anthropic.messages.count_tokens(**question)).input_tokens > 0


async def test_one_cloud_stands_in_for_another(
    make_client: MakeClient, stand_in: StandIn, settings: dict[str, object]
) -> None:
    account, service_account = Account({"AKID": ("of-the-key", None)}), ServiceAccount()
    with running_bedrock(account, stand_in.url) as bedrock, running_vertex(service_account, stand_in.url) as vertex:
        block = {"project": PROJECT, "region": LOCATION, "baseUrl": vertex.url}
        more = {
            "model_provider": "bedrock",
            "bedrock_region": REGION,
            "bedrock_base_url": bedrock.url,
            "aws_access_key_id": "AKID",
            "aws_secret_access_key": "of-the-key",
            "google_service_account_key": service_account.file(vertex.url),
            "model_fallbacks": json.dumps([{"provider": "vertex", "vertex": block}]),
        }
        client = await make_client(**{**settings, **more})
        assert await answered_by(client) == "bedrock"
        account.keys.clear()
        assert await answered_by(client) == "vertex"
        service_account.down = True
        service_account.tokens.clear()
        assert (await client.post("/chat", json={"message": "hello"})).status_code >= 500
