"""An agent whose model is on Amazon Bedrock: the stand-in verifies each signature by botocore."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest

from stand_in import StandIn
from support.agent import MakeClient
from support.clouds.bedrock import REGION, Account, running_bedrock
from support.clouds.server import CloudServer
from support.eventually import eventually_async
from support.runtime_gateway import MODEL, MakeGateway, asked, chat

PROFILE = "arn:aws:bedrock:eu-central-1:123456789012:application-inference-profile/abc"
ACCESS_KEY, SECRET_KEY, TOKEN = "AKIDEXAMPLE", "secret-of-the-key", "token-of-the-session"
API_KEY = "bedrock-api-key-0123456789"


@pytest.fixture
def account() -> Account:
    return Account({ACCESS_KEY: (SECRET_KEY, TOKEN)}, {API_KEY})


@pytest.fixture
def bedrock(account: Account, stand_in: StandIn) -> Iterator[CloudServer]:
    with running_bedrock(account, stand_in.url) as server:
        yield server


@pytest.fixture
def settings(bedrock: CloudServer) -> dict[str, object]:
    return {
        "model_provider": "bedrock",
        "bedrock_region": REGION,
        "bedrock_base_url": bedrock.url,
        "model_ids": {MODEL: PROFILE},
        "aws_access_key_id": ACCESS_KEY,
        "aws_secret_access_key": SECRET_KEY,
        "aws_session_token": TOKEN,
    }


def of_api(api: str, bedrock: CloudServer) -> dict[str, object]:
    """Return the settings of one of the two APIs."""
    return {"bedrock_api": api, "bedrock_base_url": bedrock.url + ("/anthropic" if api == "messages" else "")}


async def reason(client: httpx.AsyncClient) -> str | None:
    found: str | None = (await client.get("/health/ready")).json()["reason"]
    return found


async def test_the_built_in_agent_answers_from_a_profile(
    make_client: MakeClient, stand_in: StandIn, bedrock: CloudServer, settings: dict[str, object]
) -> None:
    client = await make_client(**settings)
    answer = (await client.post("/chat", json={"message": "hello"})).json()

    assert 'heard "hello"' in answer["response"]
    assert answer["tokens_used"] > stand_in.last()["usage"]["input_tokens"] > 0
    assert stand_in.last()["model"] == PROFILE
    assert bedrock.questions()[0].path == (
        "/model/arn:aws:bedrock:eu-central-1:123456789012:application-inference-profile%2Fabc/invoke-with-response-stream"
    )


@pytest.mark.parametrize("api", ["invoke", "messages"])
async def test_an_api_key_of_bedrock_is_enough(
    make_client: MakeClient, bedrock: CloudServer, settings: dict[str, object], api: str
) -> None:
    settings = settings | of_api(api, bedrock)
    keys = {"aws_access_key_id": None, "aws_secret_access_key": None, "aws_bearer_token_bedrock": API_KEY}
    client = await make_client(**{**settings, **keys})

    assert (await client.post("/chat", json={"message": "hello"})).status_code == 200
    assert bedrock.questions()[0].headers["Authorization"] == f"Bearer {API_KEY}"


@pytest.mark.parametrize(("fault", "status"), [(400, 502), (429, 429), (503, 503), (529, 503), (500, 502)])
async def test_errors_mean_the_same_as_those_of_anthropic(
    make_client: MakeClient, stand_in: StandIn, settings: dict[str, object], fault: int, status: int
) -> None:
    stand_in.behave(fault=fault)
    ours = await (await make_client(**settings)).post("/chat", json={"message": "hello"})
    theirs = await (await make_client()).post("/chat", json={"message": "hello"})

    assert ours.status_code == theirs.status_code == status
    assert ours.json() == theirs.json()


async def test_refused_keys_make_the_pod_unready_until_the_files_have_others(
    make_client: MakeClient,
    account: Account,
    settings: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    files = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": "of-another-key", "AWS_SESSION_TOKEN": TOKEN}
    for name, value in files.items():
        (folder / name).write_text(value + "\n")
    monkeypatch.setenv("SECRETS_DIR", str(folder))
    given = {name: value for name, value in settings.items() if not name.startswith("aws_")}
    client = await make_client(**given)

    refused = await client.post("/chat", json={"message": "hello"})
    assert refused.status_code == 502
    assert await reason(client) == "credentials refused"
    assert "agent_model_credentials_refused 1.0" in (await client.get("/metrics")).text

    (folder / "AWS_SECRET_ACCESS_KEY").write_text(SECRET_KEY)
    assert (await client.post("/chat", json={"message": "hello"})).status_code == 200
    assert await reason(client) is None


@pytest.mark.parametrize("counts", [True, False])
async def test_health_checks_the_model_at_no_cost(
    make_client: MakeClient, stand_in: StandIn, account: Account, settings: dict[str, object], *, counts: bool
) -> None:
    account.counts = counts
    client = await make_client(**settings)

    async def is_up() -> bool:
        components = (await client.get("/health")).json()["components"]
        return bool(components["model_api"]["status"] == "up")

    await eventually_async(is_up, "the model is found to answer")
    assert stand_in.requests() == []


async def test_the_gateway_sends_what_the_official_client_sends(
    make_gateway: MakeGateway, bedrock: CloudServer, settings: dict[str, object]
) -> None:
    gateway = await make_gateway(**settings)
    given: dict[str, Any] = {
        "system": "Be brief.",
        "metadata": {"user_id": "one"},
        "extra_headers": {"anthropic-beta": "one-2026-01-01"},
    }
    await gateway.anthropic.messages.create(**asked("hello", **given))
    official = anthropic.AsyncAnthropicBedrock(
        aws_access_key=ACCESS_KEY,
        aws_secret_key=SECRET_KEY,
        aws_session_token=TOKEN,
        aws_region=REGION,
        base_url=bedrock.url,
        max_retries=0,
    )
    with pytest.raises(anthropic.BadRequestError, match="anthropic_version"):
        # Its version of the API is one that models with a versioned id refuse.
        await official.messages.create(**{**asked("hello", **given), "model": PROFILE})
    ours, theirs = bedrock.questions()

    assert ours.path == theirs.path
    assert ours.json() == {**theirs.json(), "anthropic_version": "bedrock-2023-05-31"}


async def test_chat_completions_are_refused_with_the_way_that_works(
    make_gateway: MakeGateway, settings: dict[str, object]
) -> None:
    gateway = await make_gateway(**settings)
    found = await gateway.http.post("/v1/chat/completions", json=chat("hello"))

    assert found.status_code == 404
    assert "/v1/messages" in json.loads(found.text)["error"]["message"]
