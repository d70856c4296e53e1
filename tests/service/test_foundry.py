"""An agent whose model is a deployment in Microsoft Foundry."""

from collections.abc import Iterator

import anthropic
import httpx
import pytest

from stand_in import StandIn
from support.agent import MakeClient
from support.clouds.foundry import Resource, running_foundry
from support.clouds.server import CloudServer
from support.runtime_gateway import MODEL, MakeGateway, asked

DEPLOYMENT = "our-deployment"
API_KEY = "foundry-key-0123456789"


@pytest.fixture
def resource() -> Resource:
    return Resource({API_KEY}, {DEPLOYMENT})


@pytest.fixture
def foundry(resource: Resource, stand_in: StandIn) -> Iterator[CloudServer]:
    with running_foundry(resource, stand_in.url) as server:
        yield server


@pytest.fixture
def settings(foundry: CloudServer) -> dict[str, object]:
    return {
        "model_provider": "foundry",
        "foundry_base_url": foundry.url,
        "model_ids": {MODEL: DEPLOYMENT},
        "anthropic_foundry_api_key": API_KEY,
    }


async def reason(client: httpx.AsyncClient) -> str | None:
    found: str | None = (await client.get("/health/ready")).json()["reason"]
    return found


async def test_the_built_in_agent_answers_from_a_deployment(
    make_client: MakeClient, stand_in: StandIn, settings: dict[str, object]
) -> None:
    client = await make_client(**settings)
    answer = (await client.post("/chat", json={"message": "hello"})).json()

    assert 'heard "hello"' in answer["response"]
    assert stand_in.last()["model"] == DEPLOYMENT


async def test_a_refused_key_makes_the_pod_unready_until_it_is_accepted(
    make_client: MakeClient, resource: Resource, settings: dict[str, object]
) -> None:
    resource.api_keys.clear()
    client = await make_client(**settings)
    assert (await client.post("/chat", json={"message": "hello"})).status_code == 502
    assert await reason(client) == "credentials refused"

    resource.api_keys.add(API_KEY)
    assert (await client.post("/chat", json={"message": "hello"})).status_code == 200
    assert await reason(client) is None


async def test_the_gateway_passes_the_betas_of_a_runtime_on(
    make_gateway: MakeGateway, foundry: CloudServer, settings: dict[str, object]
) -> None:
    gateway = await make_gateway(**settings)
    await gateway.anthropic.beta.messages.create(**asked("hello"), betas=["one-2026-01-01"])

    last = foundry.questions()[-1]
    assert (last.path, last.headers["anthropic-beta"]) == ("/anthropic/v1/messages", "one-2026-01-01")


async def test_a_missing_deployment_is_a_model_that_is_not_found(
    make_gateway: MakeGateway, resource: Resource, settings: dict[str, object]
) -> None:
    resource.deployments.clear()
    gateway = await make_gateway(**settings)
    with pytest.raises(anthropic.NotFoundError, match="not_found_error"):
        await gateway.say("hello")
