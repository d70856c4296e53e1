"""What the operator makes of a provider in a cloud."""

import json
from typing import Any

import pytest

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.spec import AgentSpec
from agent_operator.manifests.config_map import settings
from agent_operator.manifests.network_policy import network_policy
from agent_operator.manifests.secrets_volume import secret_sources
from agent_operator.tools.lint import advice

CREDENTIALS = {"secretName": "cloud"}
BLOCKS: dict[str, dict[str, Any]] = {
    "bedrock": {"region": "eu-central-1"},
    "vertex": {"project": "project-one", "region": "global"},
    "foundry": {"resource": "resource-one"},
}
ITEMS = {
    "bedrock": ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
    "vertex": ["GOOGLE_SERVICE_ACCOUNT_KEY"],
    "foundry": ["ANTHROPIC_FOUNDRY_API_KEY"],
}


def agent(provider: str, **given: Any) -> AgentDeployment:
    block = {**BLOCKS[provider], **given}
    if "baseUrl" in block:
        block.pop("resource", None)
    spec = {"agent": {"provider": provider, provider: block, "credentials": CREDENTIALS}}
    return AgentDeployment("hello", "prod", AgentSpec.model_validate(spec))


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        ("bedrock", {"BEDROCK_REGION": "eu-central-1"}),
        ("vertex", {"VERTEX_PROJECT": "project-one", "VERTEX_REGION": "global"}),
        ("foundry", {"FOUNDRY_RESOURCE": "resource-one"}),
    ],
)
def test_the_block_of_the_provider_becomes_its_settings(provider: str, expected: dict[str, str]) -> None:
    found = settings(agent(provider, modelIds={"b": "us.model-b:1", "a": "arn:aws:bedrock:x:1:profile/a"}))

    assert found["MODEL_PROVIDER"] == provider
    assert found["SECRETS_DIR"]
    assert {name: value for name, value in found.items() if name.startswith(provider.upper())} == expected
    assert json.loads(found["MODEL_IDS"]) == {"a": "arn:aws:bedrock:x:1:profile/a", "b": "us.model-b:1"}


def test_the_api_of_bedrock_is_a_setting() -> None:
    assert settings(agent("bedrock", api="messages"))["BEDROCK_API"] == "messages"


@pytest.mark.parametrize("provider", BLOCKS)
def test_the_secret_is_mounted_under_the_names_of_the_settings(provider: str) -> None:
    needed, *optional = [source["secret"] for source in secret_sources(agent(provider))]

    assert needed == {"name": "cloud", "items": [{"key": name, "path": name} for name in ITEMS[provider]]}
    assert [(each["items"][0]["key"], each["optional"]) for each in optional] == (
        [("AWS_SESSION_TOKEN", True)] if provider == "bedrock" else []
    )


@pytest.mark.parametrize("provider", BLOCKS)
@pytest.mark.parametrize(("given", "port"), [({}, 443), ({"baseUrl": "http://proxy.cloud.svc:8080/x"}, 8080)])
def test_the_network_policy_opens_the_port_of_the_provider(provider: str, given: dict[str, Any], port: int) -> None:
    policy = network_policy(agent(provider, **given))

    assert policy is not None
    assert {"port": port, "protocol": "TCP"} in policy["spec"]["egress"][0]["ports"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"provider": "bedrock", "credentials": CREDENTIALS}, "set agent.bedrock"),
        ({"provider": "vertex", "vertex": BLOCKS["vertex"]}, "set agent.credentials.secretName"),
        ({"foundry": {}}, "set agent.foundry.resource or agent.foundry.baseUrl"),
        ({"bedrock": {"region": "eu", "modelIds": {"a b": "c"}}}, "each key of modelIds"),
    ],
)
def test_a_spec_that_lacks_something_is_refused_with_what_to_do(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        AgentSpec.model_validate({"agent": given, "apiKey": {"secretName": "key"}})


def test_blocks_of_other_providers_are_pointed_out() -> None:
    spec = AgentSpec.model_validate({"agent": {"provider": "echo", "credentials": CREDENTIALS, **BLOCKS}})
    fields = {fault.field for fault in advice(spec)}

    assert {f"spec.agent.{name}" for name in (*BLOCKS, "credentials")} <= fields
