"""An agent without a key: its pod's token is exchanged for a credential of each provider.

The stand-ins of the token services verify the token's signature, issuer, audience, subject and times.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from stand_in import StandIn
from support.agent import MakeClient
from support.clouds.anthropic import running_anthropic
from support.clouds.bedrock import REGION as AWS_REGION
from support.clouds.bedrock import Account, running_bedrock
from support.clouds.foundry import Resource, running_foundry
from support.clouds.server import CloudServer
from support.clouds.token_services import (
    ACCOUNT,
    AUDIENCES,
    CLIENT,
    ORGANIZATION,
    POOL,
    ROLE,
    RULE,
    TENANT,
    Cluster,
    TokenService,
    running_token_service,
    write_token,
)
from support.clouds.vertex import PROJECT, REGION, ServiceAccount, running_vertex
from support.eventually import eventually_async
from support.runtime_gateway import MODEL, MakeGateway

KINDS = tuple(AUDIENCES)
PLACES = {
    "anthropic": "Anthropic's token service",
    "bedrock": "AWS STS",
    "eks": "the EKS Pod Identity Agent",
    "vertex": "Google's Security Token Service",
    "foundry": "Microsoft Entra ID",
}


@dataclass
class Cloud:
    """A provider with its token service, and the settings of an agent that uses them."""

    kind: str
    service: TokenService
    server: CloudServer
    file: Path
    cluster: Cluster
    settings: dict[str, object] = field(default_factory=dict)

    def write(self, audience: str | None = None, **given: object) -> str:
        """Write another token, and return it."""
        token = self.cluster.token(audience or self.service.audience, **given)  # type: ignore[arg-type]
        write_token(self.file, token)
        return token

    def exchanges(self) -> int:
        return len(self.server.received)


@pytest.fixture
def make_cloud(stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Cloud]]:
    with ExitStack() as stack:

        def make(kind: str) -> Cloud:
            cluster = Cluster()
            service = TokenService(AUDIENCES[kind], cluster.keys)
            server = stack.enter_context(running_token_service(kind, service, stand_in.url))
            cloud = Cloud(kind, service, server, tmp_path / "token", cluster)
            cloud.write()
            cloud.settings = {
                "anthropic_api_key": None,
                "identity_token_file": cloud.file,
                "identity_token_url": server.url,
                **_provider(kind, service, server.url, stack, stand_in),
            }
            return cloud

        # The fixtures' own key must not be used in place of the exchange.
        monkeypatch.setenv("ANTHROPIC_API_KEY", "a-key-of-the-environment")
        yield make


def _provider(kind: str, service: TokenService, url: str, stack: ExitStack, stand_in: StandIn) -> dict[str, object]:
    """Run the stand-in for the models of a provider, which accepts what the token service issues."""
    if kind == "anthropic":
        place = stack.enter_context(running_anthropic(service.issued, stand_in.url)).url
        return {
            "anthropic_base_url": place,
            "anthropic_federation_rule_id": RULE,
            "anthropic_organization_id": ORGANIZATION,
        }
    if kind in {"bedrock", "eks"}:
        account = Account()
        service.on_issue = lambda value: account.keys.update({f"ASIA{value}": (f"secret-{value}", value)})
        place = stack.enter_context(running_bedrock(account, stand_in.url)).url
        ours = {"model_provider": "bedrock", "bedrock_region": AWS_REGION, "bedrock_base_url": place}
        if kind == "bedrock":
            return {**ours, "aws_role_arn": ROLE}
        return {**ours, "aws_container_credentials_full_uri": f"{url}/v1/credentials"}
    if kind == "vertex":
        project = ServiceAccount(tokens=service.issued)
        place = stack.enter_context(running_vertex(project, stand_in.url)).url
        return {
            "model_provider": "vertex",
            "vertex_project": PROJECT,
            "vertex_region": REGION,
            "vertex_base_url": place,
            "google_identity_provider": POOL,
        }
    resource = Resource(deployments={MODEL}, tokens=service.issued)
    place = stack.enter_context(running_foundry(resource, stand_in.url)).url
    return {
        "model_provider": "foundry",
        "foundry_base_url": place,
        "azure_tenant_id": TENANT,
        "azure_client_id": CLIENT,
    }


async def say(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post("/chat", json={"message": "hello"})


async def reason(client: httpx.AsyncClient) -> str | None:
    found: str | None = (await client.get("/health/ready")).json()["reason"]
    return found


async def kind_of_failure(client: httpx.AsyncClient) -> str | None:
    """Return the kind of the problem with the model API in `/health`."""
    found: str | None = (await client.get("/health")).json()["components"]["model_api"]["kind"]
    return found


async def metrics(client: httpx.AsyncClient) -> str:
    return (await client.get("/metrics")).text


async def fails_as(client: httpx.AsyncClient, kind: str) -> str:
    """Wait until `/health` reports this kind, and return the sentence."""

    async def reported() -> bool:
        return await kind_of_failure(client) == kind

    await eventually_async(reported, f"/health reports {kind}")
    return str((await client.get("/health")).json()["components"]["model_api"]["detail"])


@pytest.mark.parametrize("kind", KINDS)
async def test_an_agent_without_a_key_answers_with_one_exchange_for_all_calls(
    make_client: MakeClient, make_cloud: Callable[[str], Cloud], kind: str
) -> None:
    cloud = make_cloud(kind)
    client = await make_client(**cloud.settings)
    for _ in range(3):
        answer = await say(client)
        assert 'heard "hello"' in answer.json()["response"], answer.text

    assert cloud.exchanges() == 1
    assert await reason(client) is None


@pytest.mark.parametrize("kind", KINDS)
async def test_a_runtime_reaches_the_model_through_the_gateway_without_a_key(
    make_gateway: MakeGateway, make_cloud: Callable[[str], Cloud], kind: str
) -> None:
    cloud = make_cloud(kind)
    gateway = await make_gateway(**cloud.settings)

    assert 'heard "hello"' in await gateway.say("hello")
    # A beta feature of the caller is not in the way of the one that Anthropic's tokens need.
    assert 'heard "hello"' in await gateway.say("hello", extra_headers={"anthropic-beta": "context-1m-2025-08-07"})
    assert gateway.sample("agent_model_credential_exchanges_total", result="ok") == 1
    assert gateway.sample("agent_model_credential_expiry_timestamp_seconds") > 0


async def test_a_google_service_account_is_impersonated(
    make_client: MakeClient, make_cloud: Callable[[str], Cloud]
) -> None:
    cloud = make_cloud("vertex")
    client = await make_client(**cloud.settings, google_service_account=ACCOUNT)

    assert (await say(client)).status_code == 200
    assert [each.path.rpartition("/")[2] for each in cloud.server.received] == [
        "token",
        f"{ACCOUNT}:generateAccessToken",
    ]


async def test_a_google_service_account_that_may_not_be_impersonated_is_named_as_the_step_that_fails(
    make_client: MakeClient, make_cloud: Callable[[str], Cloud]
) -> None:
    cloud = make_cloud("vertex")
    client = await make_client(**cloud.settings, google_service_account="other@project-one.iam.gserviceaccount.com")

    assert "Google's IAM" in await fails_as(client, "identity_not_trusted")


def _expired(cloud: Cloud) -> None:
    cloud.write(age=7200)


def _for_another(cloud: Cloud) -> None:
    cloud.write("https://kubernetes.default.svc")


def _without_a_file(cloud: Cloud) -> None:
    cloud.file.unlink()


def _of_another_cluster(cloud: Cloud) -> None:
    cloud.cluster = Cluster()
    cloud.write()


def _of_another_account(cloud: Cloud) -> None:
    cloud.write(subject="system:serviceaccount:prod:other")


def _with_a_clock_that_is_late(cloud: Cloud) -> None:
    """Our clock is 5 minutes ahead of the service's: the token is from its future."""
    cloud.service.clock = -300


@pytest.mark.parametrize(
    ("kind", "happens", "expected"),
    [
        # The service itself finds these two, whatever the token service is.
        ("bedrock", _without_a_file, "no_identity_token"),
        ("bedrock", _expired, "identity_token_expired"),
        *((kind, _for_another, "audience_refused") for kind in KINDS),
        *((kind, _of_another_account, "identity_not_trusted") for kind in KINDS),
    ],
)
async def test_each_step_of_the_chain_that_fails_has_a_kind_of_its_own_and_recovers(
    make_client: MakeClient,
    make_cloud: Callable[[str], Cloud],
    kind: str,
    happens: Callable[[Cloud], None],
    expected: str,
) -> None:
    cloud = make_cloud(kind)
    happens(cloud)
    client = await make_client(**cloud.settings)

    assert (await say(client)).status_code == 502
    sentence = await fails_as(client, expected)
    assert await reason(client) == "credentials refused"
    if expected in {"audience_refused", "identity_not_trusted"}:
        assert PLACES[kind] in sentence

    cloud.write()

    async def answers() -> bool:
        return (await say(client)).status_code == 200

    await eventually_async(answers, "the agent answers with a valid token")
    assert await reason(client) is None


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "eks"])
async def test_a_cluster_that_the_token_service_does_not_know_is_reported(
    make_client: MakeClient, make_cloud: Callable[[str], Cloud], kind: str
) -> None:
    cloud = make_cloud(kind)
    _of_another_cluster(cloud)
    client = await make_client(**cloud.settings)

    assert PLACES[kind] in await fails_as(client, "issuer_refused")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "eks"])
async def test_a_clock_that_is_off_by_five_minutes_is_reported_as_such(
    make_client: MakeClient, make_cloud: Callable[[str], Cloud], kind: str
) -> None:
    cloud = make_cloud(kind)
    _with_a_clock_that_is_late(cloud)
    client = await make_client(**cloud.settings)

    await fails_as(client, "clock_off")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_credential_lives_as_long_with_a_clock_that_is_behind(
    make_client: MakeClient, make_cloud: Callable[[str], Cloud], kind: str
) -> None:
    cloud = make_cloud(kind)
    cloud.service.clock = 300
    client = await make_client(**cloud.settings)

    assert (await say(client)).status_code == 200
    found = re.search(
        r"^agent_model_credential_expiry_timestamp_seconds(?:{.*})? (\S+)$", await metrics(client), re.MULTILINE
    )
    assert found is not None
    # By the clock of the agent. Some of the services give the time of the end.
    assert 0 < float(found[1]) - time.time() <= cloud.service.lifetime


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "eks"])
async def test_a_key_that_is_rotated_at_the_issuer_is_used_when_the_token_service_knows_it(
    make_client: MakeClient, make_cloud: Callable[[str], Cloud], kind: str
) -> None:
    cloud = make_cloud(kind)
    client = await make_client(**cloud.settings)
    assert (await say(client)).status_code == 200
    _of_another_cluster(cloud)
    restarted = await make_client(**cloud.settings)

    await fails_as(restarted, "issuer_refused")
    assert (await say(client)).status_code == 200, "its credential is in use to its end"

    cloud.service.keys = cloud.cluster.keys

    async def answers() -> bool:
        return (await say(restarted)).status_code == 200

    await eventually_async(answers, "the agent answers when the new key is known")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_credential_is_used_to_its_end_while_the_token_service_is_down(
    make_client: MakeClient, make_cloud: Callable[[str], Cloud], kind: str
) -> None:
    cloud = make_cloud(kind)
    client = await make_client(**cloud.settings)
    assert (await say(client)).status_code == 200
    cloud.service.down = True
    cloud.write()

    assert (await say(client)).status_code == 200
    assert await reason(client) is None


@pytest.mark.parametrize("kind", KINDS)
async def test_a_token_service_that_is_down_is_no_refused_credential_and_is_asked_again(
    make_client: MakeClient, make_cloud: Callable[[str], Cloud], kind: str
) -> None:
    cloud = make_cloud(kind)
    cloud.service.down = True
    client = await make_client(**cloud.settings)
    assert (await say(client)).status_code == 503
    assert await reason(client) is None

    cloud.service.down = False

    async def answers() -> bool:
        return (await say(client)).status_code == 200

    await eventually_async(answers, "the agent answers when the token service is up")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_token_service_that_does_not_answer_is_reported(
    make_client: MakeClient, make_cloud: Callable[[str], Cloud], kind: str
) -> None:
    cloud = make_cloud(kind)
    cloud.service.silent = True
    client = await make_client(**cloud.settings)

    assert (await say(client)).status_code == 504
    assert "did not answer in time" in await fails_as(client, "timed_out")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("garbled", [b"", b"<html>", b"[]", b"{}", b'{"access_token": 1, "expires_in": "x"}', b"\xff"])
async def test_an_answer_that_is_none_of_a_token_service_is_reported(
    make_client: MakeClient, make_cloud: Callable[[str], Cloud], kind: str, garbled: bytes
) -> None:
    cloud = make_cloud(kind)
    cloud.service.garbled = garbled
    client = await make_client(**cloud.settings)

    assert (await say(client)).status_code == 502
    assert "could not be read" in await fails_as(client, "unreadable")


@pytest.mark.parametrize("kind", KINDS)
async def test_no_token_reaches_the_log_an_answer_or_the_metrics(
    make_client: MakeClient,
    make_cloud: Callable[[str], Cloud],
    kind: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    cloud = make_cloud(kind)
    accepted = cloud.write()
    client = await make_client(**cloud.settings)
    answers = [(await say(client)).text]
    refused = cloud.write("https://kubernetes.default.svc")
    other = await make_client(**cloud.settings)
    answers.append((await say(other)).text)
    await fails_as(other, "audience_refused")
    for path in ("/health", "/metrics"):
        answers += [(await each.get(path)).text for each in (client, other)]

    out = capfd.readouterr()
    for secret in (refused, refused.split(".")[2], accepted, *cloud.service.issued):
        assert all(secret not in text for text in (*answers, out.out, out.err))


async def test_a_credential_that_is_revoked_is_replaced(
    make_client: MakeClient, make_cloud: Callable[[str], Cloud]
) -> None:
    cloud = make_cloud("anthropic")
    client = await make_client(**cloud.settings)
    assert (await say(client)).status_code == 200
    cloud.service.issued.clear()
    assert (await say(client)).status_code == 502

    async def answers() -> bool:
        return (await say(client)).status_code == 200

    await eventually_async(answers, "another credential is used")
    assert await reason(client) is None
