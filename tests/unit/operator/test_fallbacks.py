"""What the operator makes of the fallbacks of a provider."""

import json
from typing import Any

import pytest

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.agent_class import AgentClassSpec
from agent_operator.api.spec import AgentSpec
from agent_operator.classes.bounds import violations
from agent_operator.controller.status.dependencies import judge_dependencies
from agent_operator.manifests.config_map import settings
from agent_operator.manifests.network_policy import network_policy
from agent_operator.manifests.secrets_volume import secret_sources
from agent_service.config.fallbacks import read_fallbacks

BEDROCK = {"provider": "bedrock", "bedrock": {"region": "eu-west-1"}, "credentials": {"secretName": "cloud"}}
SMALL = {"provider": "anthropic", "model": "claude-small"}
PRICES = {"claude-sonnet-5-5": {"input": "3", "output": "15"}, "claude-small": {"input": "1", "output": "5"}}


def agent(*fallbacks: dict[str, Any], **given: Any) -> AgentDeployment:
    spec = {"agent": {"provider": "anthropic", "fallbacks": list(fallbacks)}, "apiKey": {"secretName": "own"}, **given}
    return AgentDeployment("hello", "prod", AgentSpec.model_validate(spec))


def test_the_service_reads_the_setting_that_the_operator_writes() -> None:
    budget = {"cost": "10", "prices": PRICES}
    written = settings(agent(BEDROCK, SMALL, budget=budget, redis={"url": "redis://redis"}))["MODEL_FALLBACKS"]

    assert [entry.get("secretsDir") for entry in json.loads(written)] == ["fallback-1", None]
    bedrock, small = read_fallbacks(written, "anthropic")
    assert bedrock.bedrock is not None
    assert bedrock.bedrock.region == "eu-west-1"
    assert (bedrock.name, small.name, small.model) == ("bedrock", "anthropic-2", "claude-small")
    assert [each.prices is not None and each.prices.input for each in (bedrock, small)] == [3, 1]


def test_no_setting_names_a_secret() -> None:
    assert "cloud" not in settings(agent(BEDROCK))["MODEL_FALLBACKS"]


def test_without_fallbacks_there_is_no_setting() -> None:
    spec = AgentSpec.model_validate({"agent": {"provider": "echo"}})
    assert "MODEL_FALLBACKS" not in settings(AgentDeployment("hello", "prod", spec))


def test_the_credentials_of_a_fallback_are_in_a_folder_of_its_own() -> None:
    own = {"provider": "anthropic", "model": "claude-small", "credentials": {"secretName": "other"}}
    items = [
        (source["secret"]["name"], item["path"])
        for source in secret_sources(agent(BEDROCK, own))
        for item in source.get("secret", {}).get("items", [])
    ]

    assert items[:5] == [
        ("own", "ANTHROPIC_API_KEY"),
        ("cloud", "fallback-1/AWS_ACCESS_KEY_ID"),
        ("cloud", "fallback-1/AWS_SECRET_ACCESS_KEY"),
        ("cloud", "fallback-1/AWS_SESSION_TOKEN"),
        ("other", "fallback-2/ANTHROPIC_API_KEY"),
    ]


def test_the_network_policy_opens_the_ports_of_all_providers() -> None:
    proxied = {**BEDROCK, "bedrock": {"region": "eu-west-1", "baseUrl": "http://proxy:8080"}}
    policy = network_policy(agent(proxied))

    assert policy is not None
    ports = [each["port"] for each in policy["spec"]["egress"][0]["ports"]]
    assert {443, 8080} <= set(ports)


@pytest.mark.parametrize(
    ("bounds", "field"),
    [
        ({"providers": ["anthropic"]}, "spec.agent.fallbacks.provider"),
        ({"models": ["claude-sonnet-*"]}, "spec.agent.fallbacks.model"),
        ({"modelHosts": ["*.example.com"]}, "spec.agent.fallbacks.bedrock.baseUrl"),
    ],
)
def test_a_class_bounds_the_fallbacks_too(bounds: dict[str, Any], field: str) -> None:
    proxied = {**BEDROCK, "bedrock": {"region": "eu-west-1", "baseUrl": "http://proxy:8080"}}
    found = violations(agent(proxied, SMALL).spec, AgentClassSpec.model_validate({"bounds": bounds}))

    assert [fault.field for fault in found] == [field]


def test_a_class_bounds_the_hosts_of_clouds() -> None:
    spec = {
        "agent": {
            "provider": "bedrock",
            "bedrock": {"region": "eu-west-1", "baseUrl": "https://elsewhere.test"},
            "credentials": {"secretName": "cloud"},
        }
    }
    found = violations(
        AgentSpec.model_validate(spec), AgentClassSpec.model_validate({"bounds": {"modelHosts": ["*.example.com"]}})
    )

    assert [fault.field for fault in found] == ["spec.agent.bedrock.baseUrl"]


def test_the_status_says_that_a_fallback_answers() -> None:
    judged = judge_dependencies({"model_api": "", "model_primary": "overloaded", "redis": ""}, {})

    assert judged is not None
    assert (judged.status, judged.reason) == ("True", "OnFallback")
    assert "it is overloaded" in judged.message


def test_when_no_fallback_answers_the_model_api_is_down() -> None:
    judged = judge_dependencies({"model_api": "dns", "model_primary": "dns", "redis": ""}, {})

    assert judged is not None
    assert (judged.status, judged.reason) == ("False", "ModelAPIUnavailable")
