"""What the operator makes of a workload identity."""

from collections.abc import Iterator
from typing import Any

import pytest

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.spec import AgentSpec
from agent_operator.manifests.config_map import settings
from agent_operator.manifests.deployment import deployment
from agent_operator.manifests.document import Document
from agent_operator.manifests.network_policy import network_policy
from agent_operator.policy.refusals import refusals
from agent_operator.policy.settings import Policy
from agent_operator.tools.lint import advice

POOL = "projects/123456/locations/global/workloadIdentityPools/pool/providers/cluster"
ROLE = "arn:aws:iam::123456789012:role/support"
BLOCKS: dict[str, dict[str, Any]] = {
    "anthropic": {},
    "bedrock": {"bedrock": {"region": "eu-central-1"}},
    "vertex": {"vertex": {"project": "project-one", "region": "global"}},
    "foundry": {"foundry": {"resource": "resource-one"}},
}
IDENTITIES: dict[str, dict[str, Any]] = {
    "anthropic": {"federationRuleId": "fdrl_1", "organizationId": "organization-1", "workspaceId": "wrkspc_1"},
    "bedrock": {"roleArn": ROLE},
    "vertex": {"provider": POOL, "serviceAccount": "support@project-one.iam.gserviceaccount.com"},
    "foundry": {"tenantId": "tenant-1", "clientId": "client-1"},
}


def agent(provider: str, identity: dict[str, Any] | None = None, **more: Any) -> AgentDeployment:
    own = {provider: IDENTITIES[provider], **(identity or {})}
    whole = {"provider": provider, **BLOCKS[provider], "credentials": {"workloadIdentity": own}}
    return AgentDeployment("hello", "prod", AgentSpec.model_validate({"agent": whole, **more}))


def token_of(found: AgentDeployment) -> Document:
    """Return the token in the volume of secrets."""
    pod = deployment(found)["spec"]["template"]["spec"]
    sources = [each for volume in pod["volumes"] for each in volume.get("projected", {}).get("sources", [])]
    tokens = [each["serviceAccountToken"] for each in sources if "serviceAccountToken" in each]
    assert len(tokens) == 1
    assert isinstance(tokens[0], dict)
    return tokens[0]


@pytest.mark.parametrize(
    ("provider", "audience"),
    [
        ("anthropic", "https://api.anthropic.com"),
        ("bedrock", "sts.amazonaws.com"),
        ("vertex", f"https://iam.googleapis.com/{POOL}"),
        ("foundry", "api://AzureADTokenExchange"),
    ],
)
def test_the_token_is_for_the_audience_that_the_provider_expects(provider: str, audience: str) -> None:
    token = token_of(agent(provider))

    assert token == {"audience": audience, "expirationSeconds": 3600, "path": "identity-token"}
    assert settings(agent(provider))["IDENTITY_TOKEN_FILE"].endswith("/identity-token")


def test_audience_and_lifetime_of_the_token_can_be_set() -> None:
    token = token_of(agent("bedrock", {"audience": "ours", "tokenLifetimeSeconds": 7200}))

    assert (token["audience"], token["expirationSeconds"]) == ("ours", 7200)


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        (
            "anthropic",
            {
                "ANTHROPIC_FEDERATION_RULE_ID": "fdrl_1",
                "ANTHROPIC_ORGANIZATION_ID": "organization-1",
                "ANTHROPIC_WORKSPACE_ID": "wrkspc_1",
            },
        ),
        ("bedrock", {"AWS_ROLE_ARN": ROLE}),
        (
            "vertex",
            {
                "GOOGLE_IDENTITY_PROVIDER": POOL,
                "GOOGLE_SERVICE_ACCOUNT": "support@project-one.iam.gserviceaccount.com",
            },
        ),
        ("foundry", {"AZURE_TENANT_ID": "tenant-1", "AZURE_CLIENT_ID": "client-1"}),
    ],
)
def test_the_block_of_the_identity_becomes_settings(provider: str, expected: dict[str, str]) -> None:
    found = settings(agent(provider, {"tokenUrl": "https://sts.internal:8443"}))

    prefixes = ("ANTHROPIC_", "AWS_", "GOOGLE_", "AZURE_")
    assert {name: value for name, value in found.items() if name.startswith(prefixes)} == expected
    assert found["IDENTITY_TOKEN_URL"] == "https://sts.internal:8443"


def test_without_a_role_the_agent_on_the_node_is_asked() -> None:
    found = agent("bedrock", {"bedrock": {}})
    policy = network_policy(found)

    assert token_of(found)["audience"] == "pods.eks.amazonaws.com"
    assert settings(found)["AWS_CONTAINER_CREDENTIALS_FULL_URI"] == "http://169.254.170.23/v1/credentials"
    assert policy is not None
    assert policy["spec"]["egress"][1] == {
        "ports": [{"port": 80, "protocol": "TCP"}],
        "to": [{"ipBlock": {"cidr": "169.254.170.23/32"}}],
    }


@pytest.mark.parametrize("provider", BLOCKS)
def test_the_network_policy_opens_the_port_of_the_token_service(provider: str) -> None:
    policy = network_policy(agent(provider, {"tokenUrl": "http://proxy.cloud.svc:8080"}))

    assert policy is not None
    assert {"port": 8080, "protocol": "TCP"} in policy["spec"]["egress"][0]["ports"]


@pytest.mark.parametrize("provider", BLOCKS)
def test_only_the_agents_own_container_has_the_token(provider: str) -> None:
    other = {"name": "other", "image": "example.com/other:1"}
    found = agent(
        provider,
        runtime={"image": "example.com/agent:1"},
        sidecars=[other],
        initContainers=[{**other, "name": "before"}],
        tools=[{"name": "clock", "mcp": {"sidecar": {"image": "example.com/clock:1", "port": 9000}}}],
    )
    pod = deployment(found)["spec"]["template"]["spec"]

    assert pod["automountServiceAccountToken"] is False
    volume = next(
        each["name"]
        for each in pod["volumes"]
        if any("serviceAccountToken" in source for source in each.get("projected", {}).get("sources", []))
    )
    assert [name for name, mounts in _mounts(pod) if volume in mounts] == ["agent"]


def _mounts(pod: Document) -> Iterator[tuple[str, list[str]]]:
    for container in [*pod["initContainers"], *pod["containers"]]:
        yield container["name"], [mount["name"] for mount in container.get("volumeMounts", [])]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"credentials": {}}, "set agent.credentials.secretName or agent.credentials.workloadIdentity"),
        (
            {"credentials": {"secretName": "x", "workloadIdentity": {"anthropic": IDENTITIES["anthropic"]}}},
            "and not both",
        ),
        ({"credentials": {"workloadIdentity": {}}}, "needs to know who trusts the token"),
    ],
)
def test_an_identity_that_lacks_something_is_refused_with_what_to_do(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        AgentSpec.model_validate({"agent": given, "apiKey": {"secretName": "key"}})


def test_a_policy_refuses_another_audience_unless_it_lists_it() -> None:
    spec = agent("bedrock", {"audience": "https://kubernetes.default.svc"}).spec
    field = "agent.credentials.workloadIdentity.audience"

    assert [fault.field for fault in refusals(spec, Policy())] == [f"spec.{field}"]
    assert refusals(spec, Policy(identityAudiences=["https://kubernetes.*"])) == []
    assert refusals(agent("bedrock").spec, Policy()) == []


def test_a_key_beside_an_identity_is_pointed_out() -> None:
    found = advice(agent("anthropic", apiKey={"secretName": "key"}).spec)

    assert "spec.apiKey" in {fault.field for fault in found}
