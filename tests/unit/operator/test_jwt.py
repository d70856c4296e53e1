"""Issuers of tokens in a spec: the objects, the settings, and what is refused."""

import json
from typing import Any

import pytest

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.spec import AgentSpec
from agent_operator.manifests.config_map import settings
from agent_operator.manifests.desired import desired
from agent_operator.policy.refusals import refusals
from agent_operator.policy.settings import Policy

INSIDE = {"issuer": "http://dex.idp:5556/dex", "audiences": ["agent"]}
OUTSIDE = {
    "issuer": "https://login.example",
    "jwksUrl": "https://keys.example:8443/k",
    "audiences": ["a", "b"],
    "tenantClaim": "/org/id",
    "requiredScopes": ["agent.use"],
    "clockSkewSeconds": 30,
}


def agent(*issuers: dict[str, Any], **spec: Any) -> AgentDeployment:
    given = {"agent": {"provider": "echo"}, "auth": {"jwt": {"issuers": list(issuers)}}, **spec}
    return AgentDeployment("hello", "prod", AgentSpec.model_validate(given))


def objects(deployment: AgentDeployment) -> dict[tuple[str, str], Any]:
    return {(each["kind"], each["metadata"]["name"]): each for each in desired(deployment)}


def test_the_issuers_are_a_file_beside_the_secrets_which_follows_changes() -> None:
    found = objects(agent(INSIDE, OUTSIDE))
    file = json.loads(found["ConfigMap", "hello-jwt"]["data"]["jwt.json"])
    assert file == {"issuers": [INSIDE, OUTSIDE]}
    assert settings(agent(INSIDE))["JWT_FILE"] == "/etc/portside/secrets/jwt.json"
    volumes = found["Deployment", "hello"]["spec"]["template"]["spec"]["volumes"]
    sources = next(each["projected"]["sources"] for each in volumes if each["name"] == "secrets")
    assert {"configMap": {"name": "hello-jwt", "items": [{"key": "jwt.json", "path": "jwt.json"}]}} in sources


def test_a_changed_issuer_does_not_replace_the_pods() -> None:
    one, other = (objects(agent(each))["Deployment", "hello"] for each in (INSIDE, OUTSIDE))
    assert one == other


def test_egress_is_allowed_to_where_the_keys_are() -> None:
    policy = {"networkPolicy": {"enabled": True}}
    egress = objects(agent(INSIDE, OUTSIDE, **policy))["NetworkPolicy", "hello"]["spec"]["egress"]
    assert {"port": 8443, "protocol": "TCP"} in egress[0]["ports"]
    assert {
        "ports": [{"port": 5556, "protocol": "TCP"}],
        "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "idp"}}}],
    } in egress
    without = AgentSpec.model_validate({"agent": {"provider": "echo"}, **policy})
    none = objects(AgentDeployment("hello", "prod", without))["NetworkPolicy", "hello"]
    assert {"port": 8443, "protocol": "TCP"} not in none["spec"]["egress"][0]["ports"]


def test_without_issuers_there_is_no_object_and_no_setting() -> None:
    without = AgentDeployment("hello", "prod", AgentSpec.model_validate({"agent": {"provider": "echo"}}))
    assert ("ConfigMap", "hello-jwt") not in objects(without)
    assert "JWT_FILE" not in settings(without)


def test_a_policy_bounds_the_ports_of_issuers() -> None:
    deployment = agent(OUTSIDE, networkPolicy={"enabled": True})
    fields = [fault.field for fault in refusals(deployment.spec, Policy())]
    assert fields == ["spec.auth.jwt.issuers.jwksUrl"]


@pytest.mark.parametrize(
    "issuer",
    [
        {"issuer": "https://a.example"},
        {"issuer": "https://a.example", "audiences": []},
        {"issuer": "a.example", "audiences": ["a"]},
        {"issuer": "https://a.example", "audiences": ["a"], "requiredScopes": ['a"b']},
        {"issuer": "https://a.example", "audiences": ["a"], "clockSkewSeconds": 601},
        {"issuer": "https://a.example", "audiences": ["a"], "algorithms": ["HS256"]},
    ],
)
def test_faulty_issuers_are_refused(issuer: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="issuers"):
        agent(issuer)


def test_the_budgets_of_clients_and_tenants_are_settings_and_none_of_the_agent() -> None:
    budget = {"perClient": {"tokens": 5}, "perTenant": {"cost": "2.5"}, "prices": {"m": {"input": "1", "output": "2"}}}
    given = {"agent": {"provider": "echo", "model": "m"}, "redis": {"url": "redis://r:6379"}, "budget": budget}
    found = settings(AgentDeployment("hello", "prod", AgentSpec.model_validate(given)))
    names = ("CLIENT_BUDGET_TOKENS", "TENANT_BUDGET_COST", "BUDGET_PERIOD", "BUDGET_TOKENS", "CLIENT_BUDGET_COST")
    assert [found.get(name) for name in names] == ["5", "2.5", "month", None, None]


def test_the_rates_of_clients_and_tenants_are_settings() -> None:
    rates = {"perClient": {"requestsPerMinute": 5}, "perTenant": {"requestsPerMinute": 6, "tokensPerMinute": 7}}
    given = {"agent": {"provider": "echo"}, "rateLimit": rates}
    found = settings(AgentDeployment("hello", "prod", AgentSpec.model_validate(given)))
    names = ("CLIENT_RATE_LIMIT_REQUESTS", "CLIENT_TOKENS_PER_MINUTE")
    of_tenant = ("TENANT_RATE_LIMIT_REQUESTS", "TENANT_TOKENS_PER_MINUTE", "RATE_LIMIT_REQUESTS")
    assert [found.get(name) for name in (*names, *of_tenant)] == ["5", None, "6", "7", "100"]


@pytest.mark.parametrize(
    "budget", [{}, {"perClient": {}}, {"perTenant": {"cost": "0.0"}}, {"perClient": {"cost": "1"}}]
)
def test_a_budget_needs_limits_and_a_cost_needs_prices(budget: dict[str, Any]) -> None:
    given = {"agent": {"provider": "echo"}, "redis": {"url": "redis://r:6379"}, "budget": budget}
    with pytest.raises(ValueError, match="budget"):
        AgentSpec.model_validate(given)
