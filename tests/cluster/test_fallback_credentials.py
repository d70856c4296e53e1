"""The chart, the operator and the API server agree on which fallbacks need credentials of their own."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from agent_operator.api.validation import InvalidAgentError, parse
from support.operator import install_definition
from testbed import paths
from testbed.cluster import Cluster
from testbed.errors import TestbedError

CHART = str(paths.REPOSITORY / "helm" / "agent")
AGENT = {"apiVersion": "portside.dev/v1alpha1", "kind": "AgentDeployment", "metadata": {"name": "my-agent"}}
Helm = Callable[..., str]

POOL = "projects/123456/locations/global/workloadIdentityPools/pool/providers/cluster"
SECRET = {"secretName": "cloud"}
KEY = {"apiKey": {"secretName": "own"}}
BEDROCK = {"provider": "bedrock", "bedrock": {"region": "eu-west-1"}}
VERTEX = {"provider": "vertex", "vertex": {"project": "one", "region": "global"}}
ELSEWHERE = {"provider": "bedrock", "bedrock": {"region": "us-east-1"}}
SMALL = {"provider": "anthropic", "model": "claude-small"}


def identity(of: str, **block: str) -> dict[str, Any]:
    return {"credentials": {"workloadIdentity": {of: block}}}


FEDERATED = {"provider": "anthropic", **identity("anthropic", federationRuleId="fdrl_1", organizationId="one")}
OF_ROLE = {**BEDROCK, **identity("bedrock", roleArn="arn:aws:iam::123456789012:role/support")}
OF_POOL = {**VERTEX, **identity("vertex", provider=POOL)}


def falling_back(agent: dict[str, Any], fallback: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"agent": {**agent, "fallbacks": [fallback]}, **more}


COMPLETE = [
    falling_back(FEDERATED, SMALL),
    falling_back(OF_ROLE, ELSEWHERE),
    falling_back({**BEDROCK, "credentials": SECRET}, ELSEWHERE),
    falling_back({"provider": "anthropic"}, SMALL, **KEY),
    falling_back(OF_POOL, SMALL, **KEY),
    falling_back(OF_POOL, {**SMALL, "credentials": SECRET}),
    falling_back(FEDERATED, {**BEDROCK, "credentials": SECRET}),
]
A_FALLBACK = "a fallback needs credentials: set credentials.secretName in agent.fallbacks"
INCOMPLETE = [
    (falling_back(OF_POOL, SMALL), A_FALLBACK),
    (falling_back(FEDERATED, BEDROCK), A_FALLBACK),
    (falling_back(OF_ROLE, VERTEX), A_FALLBACK),
    (falling_back({"provider": "anthropic"}, BEDROCK, **KEY), A_FALLBACK),
    (falling_back({**BEDROCK, "credentials": SECRET}, SMALL), A_FALLBACK),
    # The gateway of a runtime asks the agent's own provider before the fallbacks.
    (falling_back(BEDROCK, {**SMALL, "credentials": SECRET}, runtime={"image": "a"}), "in a cloud needs credentials"),
    (falling_back({"provider": "anthropic"}, {**SMALL, "credentials": SECRET}, runtime={"image": "a"}), "needs a key"),
]


def template(helm: Helm, spec: dict[str, Any]) -> str:
    return helm("template", "my-agent", CHART, "-f", "-", stdin=json.dumps(spec))


@pytest.mark.parametrize("spec", COMPLETE, ids=json.dumps)
def test_a_fallback_uses_the_agents_credentials(helm: Helm, spec: dict[str, Any]) -> None:
    assert parse({**AGENT, "spec": spec}).spec.agent.fallbacks
    assert "MODEL_FALLBACKS" in template(helm, spec)


@pytest.mark.parametrize(("spec", "sentence"), INCOMPLETE, ids=json.dumps)
def test_fallbacks_without_all_credentials_are_refused(helm: Helm, spec: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidAgentError, match=sentence):
        parse({**AGENT, "spec": spec})
    with pytest.raises(TestbedError, match=sentence):
        template(helm, spec)


def test_the_api_server_takes_the_same_fallbacks(control_plane: Cluster, namespace: str) -> None:
    install_definition(control_plane)

    def create(spec: dict[str, Any]) -> None:
        document = json.dumps({**AGENT, "spec": spec})
        control_plane.kubectl("create", "--dry-run=server", "-n", namespace, "-f", "-", stdin=document)

    for spec in COMPLETE:
        create(spec)
    for spec, sentence in INCOMPLETE:
        with pytest.raises(TestbedError, match=sentence):
            create(spec)
