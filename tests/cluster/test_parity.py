"""Parity: the chart's values are the fields of the spec, and chart and operator create the same objects from them."""

import difflib
import json
import re
import subprocess
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agent_operator.api.agent import NAME_RULE
from agent_operator.api.validation import InvalidAgentError, parse
from agent_operator.manifests import desired
from codegen.operator.values import NO_CLASS, NO_REFERENCES
from testbed import binaries, paths
from unit.operator.strategies import agents, specs_with_tools, without_references

CHART = str(paths.REPOSITORY / "helm" / "agent")
# Each example runs `helm template` once, which takes a fifth of a second.
EXAMPLES = 250
ONLY_OF_ONE_FACE = ("app.kubernetes.io/managed-by", "helm.sh/chart")


@given(agents())
@example(
    {
        "apiVersion": "portside.dev/v1alpha1",
        "kind": "AgentDeployment",
        "metadata": {"name": "hello"},
        "spec": {"agent": {"provider": "echo"}, "api": {"clientTools": True, "openai": False}},
    }
)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_chart_and_the_operator_create_the_same_objects(document: dict[str, Any]) -> None:
    without_references(document["spec"])
    agent = parse(document, namespace="default")
    helm = helm_template(agent.name, document["spec"], agent.namespace)
    assert helm.returncode == 0, helm.stderr
    ours = _by_name(desired(agent))
    theirs = _by_name(_objects(helm.stdout))
    if ours != theirs:
        pytest.fail("\n".join(_difference(ours, theirs)), pytrace=False)


@given(specs_with_tools())
@settings(max_examples=EXAMPLES // 5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_chart_and_the_operator_create_the_same_objects_for_tools(spec: dict[str, Any]) -> None:
    without_references(spec)
    agent = parse(_agent("my-agent", spec), namespace="default")
    helm = helm_template("my-agent", spec, "default")
    assert helm.returncode == 0, helm.stderr
    ours, theirs = _by_name(desired(agent)), _by_name(_objects(helm.stdout))
    if ours != theirs:
        pytest.fail("\n".join(_difference(ours, theirs)), pytrace=False)


_POOL = "projects/123456/locations/global/workloadIdentityPools/pool/providers/cluster"


@pytest.mark.parametrize(
    "agent",
    [
        {"anthropic": {"federationRuleId": "fdrl_1", "organizationId": "one", "workspaceId": "wrkspc_1"}},
        {"bedrock": {}},
        {"bedrock": {}, "tokenUrl": "http://agent.internal:8080/credentials"},
        {"bedrock": {"roleArn": "arn:aws:iam::123456789012:role/support"}, "tokenLifetimeSeconds": 86_400},
        {"bedrock": {"roleArn": "arn:aws:iam::123456789012:role/a/b+c=d"}, "tokenUrl": "https://sts.internal:8443"},
        {"vertex": {"provider": _POOL}, "audience": "//ours<&>"},
        {"vertex": {"provider": _POOL, "serviceAccount": "support@project-one.iam.gserviceaccount.com"}},
        {"foundry": {"tenantId": "tenant-1", "clientId": "client-1"}},
    ],
    ids=json.dumps,
)
def test_the_chart_and_the_operator_create_the_same_objects_for_an_identity(agent: dict[str, Any]) -> None:
    provider = next(iter(agent))
    places = {
        "bedrock": {"region": "eu-west-1", "baseUrl": "http://proxy:8081"},
        "vertex": {"project": "one", "region": "global"},
        "foundry": {"resource": "one"},
    }
    spec = {
        "agent": {
            "provider": provider,
            "credentials": {"workloadIdentity": agent},
            **({provider: places[provider]} if provider in places else {}),
        },
        "auth": {"enabled": True},
    }
    found = parse(_agent("my-agent", spec), namespace="default")
    helm = helm_template("my-agent", spec, "default")
    assert helm.returncode == 0, helm.stderr
    ours, theirs = _by_name(desired(found)), _by_name(_objects(helm.stdout))
    if ours != theirs:
        pytest.fail("\n".join(_difference(ours, theirs)), pytrace=False)


@pytest.mark.parametrize(
    ("address", "namespace", "port"),
    [
        ("http://clock.tools:8080/mcp", "tools", 8080),
        ("http://clock.tools", "tools", 80),
        ("http://Clock.Tools.SVC/mcp", "tools", 80),
        ("https://clock.tools.svc:8443/a?b", "tools", 8443),
        ("https://clock.tools.svc.cluster.local./mcp", "tools", 443),
        # Names of the Internet, of the same namespace or of the node's own domain, and addresses without a name.
        ("https://example.com/mcp", None, 443),
        ("http://mcp.example.com/mcp", None, 80),
        ("http://clock:8080/mcp", None, 8080),
        ("http://10.0.0.1:8080/mcp", None, 8080),
        ("http://[fd00::1]:8080/mcp", None, 8080),
        (f"http://clock.{'a' * 64}.svc:8080/mcp", None, 8080),
    ],
)
def test_egress_follows_from_the_address_of_a_server(address: str, namespace: str | None, port: int) -> None:
    spec = {"agent": {"provider": "echo"}, "tools": [{"name": "clock", "mcp": {"url": address}}]}
    agent = parse(_agent("my-agent", spec), namespace="default")
    helm = helm_template("my-agent", spec, "default")
    assert helm.returncode == 0, helm.stderr
    for objects in (desired(agent), _objects(helm.stdout)):
        everywhere, *rules = _by_name(objects)["NetworkPolicy my-agent"]["spec"]["egress"]
        ports = [each["port"] for each in everywhere["ports"] if each["port"] not in {53, 5353}]
        selector = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
        rule = {"ports": [{"port": port, "protocol": "TCP"}], "to": [selector]}
        assert (ports, rules) == (([port], []) if namespace is None else ([], [rule]))


def test_only_the_operator_resolves_a_reference_to_a_server() -> None:
    reference = {"group": "kagent.dev", "kind": "MCPServer", "name": "clock", "namespace": "tools"}
    spec = {"agent": {"provider": "echo"}, "tools": [{"name": "clock", "mcp": {"serverRef": reference}}]}

    assert parse(_agent("my-agent", spec), namespace="default").spec.tools is not None
    refused = helm_template("my-agent", spec, "default")
    assert refused.returncode != 0
    assert "'/tools/0/mcp/serverRef'" in refused.stderr
    assert "write the address of the server in mcp.url" in refused.stderr
    # Not even the text that the schema asks for is taken.
    spec["tools"][0]["mcp"]["serverRef"] = NO_REFERENCES  # type: ignore[index]
    assert NO_REFERENCES in helm_template("my-agent", spec, "default").stderr


def test_only_the_operator_applies_a_class() -> None:
    for name, sentence in (("standard", "'/className'"), (NO_CLASS, "execution error at")):
        refused = helm_template("my-agent", {"agent": {"provider": "echo"}, "className": name}, "default")
        assert refused.returncode != 0
        assert sentence in refused.stderr
        assert "leave className out" in refused.stderr


@pytest.mark.parametrize("name", ["true", "null", "no", "on", "e1", "y"])
def test_a_name_that_yaml_reads_as_another_type_stays_a_name(name: str) -> None:
    spec = {"agent": {"provider": "echo"}, "apiKey": {"secretName": name}}
    agent = parse(_agent(name, spec), namespace=name)
    helm = helm_template(name, spec, name)
    assert helm.returncode == 0, helm.stderr
    assert _by_name(desired(agent)) == _by_name(_objects(helm.stdout))


@pytest.mark.parametrize(
    ("address", "port"),
    [
        ("https://gateway:0443", 443),
        ("http://gateway:080/v1", 80),
        ("https://gateway:0", 443),
        ("http://gateway:", 80),
        ("https://[fd00::1]:8443/v1", 8443),
        ("https://[fd00::1]", 443),
    ],
)
def test_the_port_of_an_address_is_the_same_in_the_chart_and_the_operator(address: str, port: int) -> None:
    spec = {"agent": {"baseUrl": address}, "apiKey": {"secretName": "key"}}
    agent = parse(_agent("my-agent", spec), namespace="default")
    helm = helm_template("my-agent", spec, "default")
    assert helm.returncode == 0, helm.stderr
    for objects in (desired(agent), _objects(helm.stdout)):
        policy = _by_name(objects)["NetworkPolicy my-agent"]
        assert [each["port"] for each in policy["spec"]["egress"][0]["ports"]] == [53, 53, 5353, 5353, port]


WRONG: dict[str, dict[str, Any]] = {
    "a key both ways": {"apiKey": {"value": "k", "secretName": "s"}},
    "no key at all": {"agent": {"provider": "anthropic"}},
    "fewer pods at most than at least": {"autoscaling": {"minReplicas": 3, "maxReplicas": 2}},
    "no pod can be replaced": {"rollout": {"maxSurge": "0%", "maxUnavailable": 0}},
    "no pod can be replaced, in numbers": {"rollout": {"maxSurge": 0, "maxUnavailable": 0}},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_rule_across_fields_has_the_same_message_in_the_chart_and_the_operator(wrong: dict[str, Any]) -> None:
    spec = {"agent": {"provider": "echo"}} | wrong
    with pytest.raises(InvalidAgentError) as refused:
        parse(_agent("my-agent", spec), namespace="default")
    helm = helm_template("my-agent", spec, "default")
    assert helm.returncode != 0
    for fault in refused.value.faults:
        assert fault.message in helm.stderr


@pytest.mark.parametrize("name", ["1agent", "my.agent"])
def test_a_name_that_no_service_can_have_is_rejected_by_the_chart_too(name: str) -> None:
    helm = helm_template(name, {"agent": {"provider": "echo"}}, "default")
    assert helm.returncode != 0
    assert NAME_RULE.message in helm.stderr


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"replicas": -1}, "at '/replicas'"),
        ({"agent": {"maxTokens": "many"}}, "at '/agent/maxTokens'"),
        ({"agent": {"provider": "other"}}, "at '/agent/provider'"),
        ({"replica": 1}, "replica"),
        ({"agent": {"modle": "claude-opus-5-5"}}, "modle"),
    ],
)
def test_an_invalid_value_fails_with_its_path_before_anything_is_created(spec: dict[str, Any], said: str) -> None:
    helm = helm_template("my-agent", spec, "default")
    assert helm.returncode != 0
    assert said in helm.stderr
    with pytest.raises(InvalidAgentError):
        parse(_agent("my-agent", {"agent": {"provider": "echo"}} | spec), namespace="default")


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60))
@settings(max_examples=20, deadline=None)
def test_any_line_of_text_reaches_the_agent_unchanged(prompt: str) -> None:
    helm = helm_template("my-agent", {"agent": {"provider": "echo", "systemPrompt": prompt}}, "default")
    assert helm.returncode == 0, helm.stderr
    objects = _by_name(_objects(helm.stdout))
    assert objects["ConfigMap my-agent"]["data"]["SYSTEM_PROMPT"] == prompt


def test_extra_objects_may_be_text_with_templates() -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-more\n"
    plain = {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "{{ .Release.Name }}-plain"}}
    helm = helm_template("my-agent", {"agent": {"provider": "echo"}, "extraObjects": [text, plain]}, "default")
    assert helm.returncode == 0, helm.stderr
    names = {each["metadata"]["name"] for each in _objects(helm.stdout)}
    assert {"my-agent-more", "my-agent-plain"} <= names


def helm_template(name: str, values: dict[str, Any], namespace: str) -> subprocess.CompletedProcess[str]:
    """Run `helm template` with the values on standard input."""
    command = [str(binaries.provide("helm")["helm"]), "template", name, CHART, "--namespace", namespace, "-f", "-"]
    return subprocess.run(command, input=_json(values), capture_output=True, text=True, check=False, timeout=60)


def _json(values: dict[str, Any]) -> str:
    """Return JSON that is also YAML to Helm, which accepts neither a bare control character nor a surrogate pair."""
    text = json.dumps(values, ensure_ascii=False)
    return re.sub(r"[\x7f-\x9f\ufeff\ufffe\uffff]", lambda match: f"\\u{ord(match[0]):04x}", text)


class _Loader(yaml.SafeLoader):
    """Loads YAML as Helm writes it: without dates, and with `=` as plain text."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: node.value)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda loader, node: node.value)


def _objects(text: str) -> list[dict[str, Any]]:
    """Return the objects of a release, without those of `helm test`: Helm neither keeps nor upgrades them."""
    documents = [document for document in yaml.load_all(text, Loader=_Loader) if document]
    return [each for each in documents if "helm.sh/hook" not in each["metadata"].get("annotations", {})]


def _agent(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "portside.dev/v1alpha1",
        "kind": "AgentDeployment",
        "metadata": {"name": name},
        "spec": spec,
    }


def _by_name(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the objects by kind and name, without the labels in which chart and operator differ on purpose.

    Generated client keys have a random value, and the operator generates them only when it applies them.
    """
    named = {}
    for document in objects:
        labels = document["metadata"]["labels"]
        document["metadata"]["labels"] = {key: labels[key] for key in labels if key not in ONLY_OF_ONE_FACE}
        if document["metadata"]["name"].endswith("-client-keys"):
            document.pop("stringData", None)
        named[f"{document['kind']} {document['metadata']['name']}"] = document
    assert len(named) == len(objects)
    return named


def _difference(ours: object, theirs: object) -> list[str]:
    ours_text, theirs_text = (yaml.safe_dump(each, sort_keys=True).splitlines() for each in (ours, theirs))
    return list(difflib.unified_diff(ours_text, theirs_text, "agent-operator render", "helm template", lineterm=""))
