"""Tokens of a real API server are exchanged: the stand-ins verify them by the keys that it publishes."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import KeySet

from agent_service.agent.bedrock.web_identity import PodIdentity, WebIdentity
from agent_service.agent.errors import CredentialsRefusedError
from agent_service.agent.foundry.federation import EntraIdentity
from agent_service.agent.identity.anthropic import AnthropicIdentity
from agent_service.agent.identity.exchange import exchanged
from agent_service.agent.identity.service_account_token import ServiceAccountToken
from agent_service.agent.vertex.federation import GoogleIdentity
from support.clouds.token_services import (
    AUDIENCES,
    CLIENT,
    ORGANIZATION,
    POOL,
    ROLE,
    RULE,
    TENANT,
    TokenService,
    running_token_service,
)
from testbed.cluster import Cluster

Exchange = Callable[[ServiceAccountToken], Awaitable[tuple[Any, float]]]

EXCHANGES: dict[str, Callable[[str], Exchange]] = {
    "anthropic": lambda url: AnthropicIdentity(RULE, ORGANIZATION, None, None, url).exchange,
    "bedrock": lambda url: WebIdentity(ROLE, "portside-support", url).exchange,
    "eks": lambda url: PodIdentity(f"{url}/v1/credentials").exchange,
    "vertex": lambda url: GoogleIdentity(POOL, None, url).exchange,
    "foundry": lambda url: EntraIdentity(TENANT, CLIENT, url).exchange,
}


def token_service(control_plane: Cluster, namespace: str, audience: str) -> TokenService:
    """Return a token service that trusts the cluster's issuer and its ServiceAccount `support`."""
    issuer = json.loads(control_plane.kubectl("get", "--raw", "/.well-known/openid-configuration"))["issuer"]
    keys = KeySet.import_key_set(json.loads(control_plane.kubectl("get", "--raw", "/openid/v1/jwks")))
    return TokenService(audience, keys, issuer, f"system:serviceaccount:{namespace}:support")


def write_token(control_plane: Cluster, namespace: str, audience: str, file: Path) -> Path:
    """Write a token as the kubelet requests it."""
    control_plane.kubectl("create", "serviceaccount", "support", "-n", namespace)
    file.write_text(control_plane.kubectl("create", "token", "support", "-n", namespace, f"--audience={audience}"))
    return file


@pytest.mark.parametrize("kind", EXCHANGES)
async def test_a_token_of_the_api_server_is_exchanged(
    control_plane: Cluster, namespace: str, tmp_path: Path, kind: str
) -> None:
    service = token_service(control_plane, namespace, AUDIENCES[kind])
    file = write_token(control_plane, namespace, AUDIENCES[kind], tmp_path / "token")

    with running_token_service(kind, service, "http://127.0.0.1:1") as server:
        credential = await exchanged(file, kind, EXCHANGES[kind](server.url)).current()

    assert set(credential.secrets) & service.issued


async def test_a_token_for_the_api_server_itself_is_refused(
    control_plane: Cluster, namespace: str, tmp_path: Path
) -> None:
    service = token_service(control_plane, namespace, AUDIENCES["bedrock"])
    file = write_token(control_plane, namespace, "https://kubernetes.default.svc", tmp_path / "token")

    with (
        running_token_service("bedrock", service, "http://127.0.0.1:1") as server,
        pytest.raises(CredentialsRefusedError) as failed,
    ):
        await exchanged(file, "bedrock", EXCHANGES["bedrock"](server.url)).current()

    assert failed.value.kind == "audience_refused"
    assert f"system:serviceaccount:{namespace}:support" in (failed.value.upstream or "")
    assert file.read_text().strip() not in (failed.value.upstream or "")
