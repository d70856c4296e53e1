"""What holds for a model in any cloud: throttling, refused credentials, unknown models, budgets, broken answers."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import anthropic
import httpx
import pytest

from stand_in import StandIn, asking
from support.agent import MakeClient
from support.clouds.bedrock import REGION as AWS_REGION
from support.clouds.bedrock import Account, running_bedrock
from support.clouds.foundry import Resource, running_foundry
from support.clouds.vertex import PROJECT, REGION, ServiceAccount, running_vertex
from support.eventually import eventually_async
from support.runtime_gateway import MODEL, MakeGateway, asked

KEY_ID = "AKIDEXAMPLE"
SECRET = "secret-of-the-cloud-0123456789"
# The name of the model in the cloud.
ID = "claude-of-the-cloud"


@dataclass
class Cloud:
    """A running stand-in of a cloud, and the settings of an agent whose model is there."""

    settings: dict[str, object]
    secret: str
    refuse: Callable[[], None]
    """Lets the cloud refuse the credentials in the settings."""


@contextmanager
def bedrock(upstream: str, api: str = "invoke") -> Iterator[Cloud]:
    account = Account({KEY_ID: (SECRET, None)})
    with running_bedrock(account, upstream) as server:
        settings: dict[str, object] = {
            "model_provider": "bedrock",
            "bedrock_region": AWS_REGION,
            "bedrock_api": api,
            "bedrock_base_url": server.url + ("/anthropic" if api == "messages" else ""),
            "aws_access_key_id": KEY_ID,
            "aws_secret_access_key": SECRET,
        }
        yield Cloud(settings, SECRET, account.keys.clear)


@contextmanager
def bedrock_messages(upstream: str) -> Iterator[Cloud]:
    with bedrock(upstream, "messages") as cloud:
        yield cloud


@contextmanager
def vertex(upstream: str) -> Iterator[Cloud]:
    account = ServiceAccount()

    def refuse() -> None:
        account.key = ServiceAccount().key

    with running_vertex(account, upstream) as server:
        key = account.file(server.url)
        settings: dict[str, object] = {
            "model_provider": "vertex",
            "vertex_project": PROJECT,
            "vertex_region": REGION,
            "vertex_base_url": server.url,
            "google_service_account_key": key,
        }
        yield Cloud(settings, json.loads(key)["private_key"], refuse)


@contextmanager
def foundry(upstream: str) -> Iterator[Cloud]:
    resource = Resource({SECRET}, {ID})
    with running_foundry(resource, upstream) as server:
        settings: dict[str, object] = {
            "model_provider": "foundry",
            "foundry_base_url": server.url,
            "anthropic_foundry_api_key": SECRET,
        }
        yield Cloud(settings, SECRET, resource.api_keys.clear)


CLOUDS: dict[str, Callable[[str], AbstractContextManager[Cloud]]] = {
    "bedrock": bedrock,
    "bedrock messages": bedrock_messages,
    "vertex": vertex,
    "foundry": foundry,
}


@pytest.fixture(params=CLOUDS)
def cloud(request: pytest.FixtureRequest, stand_in: StandIn) -> Iterator[Cloud]:
    with CLOUDS[request.param](stand_in.url) as running:
        running.settings["model_ids"] = {MODEL: ID}
        yield running


async def status(client: httpx.AsyncClient, message: str = "hello") -> int:
    return (await client.post("/chat", json={"message": message})).status_code


@pytest.mark.parametrize("times", [1, 3])
async def test_a_throttled_call_is_retried_by_the_official_client(
    make_client: MakeClient, stand_in: StandIn, cloud: Cloud, times: int, request: pytest.FixtureRequest
) -> None:
    client = await make_client(**cloud.settings)

    assert await status(client, asking(fault=429, times=times, id=request.node.name)) == (200 if times == 1 else 429)
    assert len(stand_in.requests()) == 2


async def test_the_gateway_reports_refused_credentials_without_their_text(
    make_gateway: MakeGateway, cloud: Cloud
) -> None:
    cloud.refuse()
    gateway = await make_gateway(**cloud.settings)
    with pytest.raises(anthropic.AuthenticationError, match="did not accept") as failed:
        await gateway.say("hello")

    assert cloud.secret not in str(failed.value)
    assert gateway.sample("agent_model_credentials_refused") == 1
    assert gateway.sample("agent_model_requests_total", model=MODEL, outcome="credentials_refused") == 1


async def test_a_runtime_speaks_the_messages_api_to_the_gateway(
    make_gateway: MakeGateway, stand_in: StandIn, cloud: Cloud
) -> None:
    gateway = await make_gateway(**cloud.settings)

    assert 'heard "hello"' in await gateway.say("hello")
    async with gateway.anthropic.messages.stream(**asked("hello")) as stream:
        assert 'heard "hello"' in await stream.get_final_text()
    counted = await gateway.anthropic.messages.count_tokens(
        model=MODEL, messages=[{"role": "user", "content": "hello"}]
    )
    assert counted.input_tokens > 0
    assert stand_in.last()["model"] == ID
    assert gateway.sample("agent_model_requests_total", model=MODEL, outcome="ok") == 2
    assert gateway.sample("agent_tokens_total", model=MODEL, direction="output") > 0


async def test_a_model_that_the_cloud_does_not_have_is_not_found(make_gateway: MakeGateway, cloud: Cloud) -> None:
    gateway = await make_gateway(**cloud.settings)
    with pytest.raises(anthropic.NotFoundError, match="not_found_error"):
        await gateway.say(asking(fault=404))


async def test_a_region_without_the_model_is_named_in_health(
    make_client: MakeClient, stand_in: StandIn, cloud: Cloud
) -> None:
    stand_in.behave(fault=404)
    client = await make_client(**cloud.settings)

    async def named() -> bool:
        return bool((await client.get("/health")).json()["components"]["model_api"]["kind"] == "model_not_found")

    await eventually_async(named, "/health says that the model is not there")
    assert await status(client) == 502
    stand_in.behave()
    assert await status(client) == 200


async def test_the_budget_counts_by_the_prices_of_the_model_and_refuses_when_it_is_used_up(
    make_client: MakeClient, stand_in: StandIn, cloud: Cloud
) -> None:
    client = await make_client(**cloud.settings, budget_cost="0.001", price_input="1000", price_output="1000")
    used: list[int] = []

    async def is_used_up() -> bool:
        answer = await client.post("/chat", json={"message": "hello"})
        used.extend([answer.json()["tokens_used"]] if answer.status_code == 200 else [])
        return answer.status_code == 429

    await eventually_async(is_used_up, "the budget is used up")
    assert len(stand_in.requests()) == len(used) > 0

    async def is_shown() -> bool:
        metrics = (await client.get("/metrics")).text
        [cost] = [line for line in metrics.splitlines() if line.startswith("agent_budget_used_cost ")]
        return float(cost.split()[1]) == pytest.approx(sum(used) / 1000)

    await eventually_async(is_shown, "the metrics show the cost of what was used")


async def test_an_error_in_a_stream_reaches_the_client_and_the_runtime_as_an_error(
    make_client: MakeClient, make_gateway: MakeGateway, cloud: Cloud
) -> None:
    broken = asking("hello", words=3, error="overloaded_error", after=1)
    client = await make_client(**cloud.settings)
    *_, last = (await client.post("/chat/stream", json={"message": broken})).text.strip().splitlines()
    assert '"type":"error"' in last

    gateway = await make_gateway(**cloud.settings)
    with pytest.raises(anthropic.APIStatusError, match="overloaded_error"):
        async with gateway.anthropic.messages.stream(**asked(broken)) as stream:
            await stream.get_final_text()
