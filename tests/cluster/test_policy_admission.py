"""An admission policy at a real API server: it refuses what the operator would, at creation and at each change."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_operator.api.schema import Schema, structural
from agent_operator.api.spec import AgentSpec
from agent_operator.api.validation import InvalidAgentError, parse
from agent_operator.policy.checks import CHECKS, Check, Is, IsNot, KeysListed, PortListed
from agent_operator.policy.refusals import refusals
from agent_operator.policy.settings import Policy, load
from support.eventually import eventually
from support.operator import Namespace, agent, install_definition
from testbed import paths
from testbed.cluster import Cluster
from testbed.errors import TestbedError
from unit.operator.strategies import specs

CHART = str(paths.REPOSITORY / "helm" / "agent-operator")
RELEASE = "policy"
DEFAULTS = Policy().model_dump(by_alias=True)
# The chart's default settings, all of them opened, and lists with entries and with prefixes of entries.
POLICIES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "everything": {
        name: [443, 22] if name == "egressPorts" else ["*"] if isinstance(value, list) else True
        for name, value in DEFAULTS.items()
    },
    "lists": {
        "networkPolicies": False,
        "ingresses": True,
        **{name: ["a*", "example.com/*", "b"] for name, value in DEFAULTS.items() if isinstance(value, list)},
        "egressPorts": [8443],
        "volumeTypes": ["hostPath"],
        "serviceAccountNames": ["ci-*"],
        "prometheusAddresses": ["http://prometheus:9090"],
    },
}
# Several of these are tried for each check, in addition to those that it names itself.
SAMPLES: tuple[Any, ...] = (True, False, 0, 22, 443, "", "a", "ab", "ci-deployer", "b", "50%", [], {})
ADDRESSES = (
    "http://h",
    "https://h/v1:22",
    "https://h:8443/v1",
    "http://[fd00::1]",
    "http://[fd00::1]:22",
    "https://h:0443",
    "https://h:",
    "https://h:0",
    "https://h:99999999999999999999",
    "redis://h",
    "rediss://h:22/0?x=:443",
    "redis://h?x=://y:443",
    "http://prometheus:9090",
)


class Served(Namespace):
    """A namespace with its own policy. (Other namespaces must have none: all tests share the control plane.)"""

    def __init__(self, cluster: Cluster, name: str, policy: Policy) -> None:
        super().__init__(cluster, name)
        self.policy = policy


@pytest.fixture(scope="module", params=POLICIES)
def served(control_plane: Cluster, request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Served]:
    """A namespace under the chart's policy with these settings."""
    install_definition(control_plane)
    with control_plane.fresh_namespace() as name:
        values = {
            "crds": {"install": False},
            "watchNamespaces": [name],
            "replicaCount": 0,
            "policies": {"enabled": True, "allow": POLICIES[request.param]},
        }
        control_plane.helm("install", RELEASE, CHART, "-n", name, "-f", "-", stdin=json.dumps(values))
        try:
            file = tmp_path_factory.mktemp("policy") / "policy.yaml"
            file.write_text(control_plane.kubectl("get", "configmap", f"{RELEASE}-policy", "-n", name, "-oyaml"))
            served = Served(control_plane, name, load(file))
            # Refused by each of the policies.
            refused = agent("a0", networkPolicy={"redisPort": 9999})
            eventually(lambda: "denied request" in served.answers([refused])["a0"], "the policy is in force")
            yield served
        finally:
            control_plane.helm("uninstall", RELEASE, "-n", name)


def test_the_api_server_refuses_what_the_operator_refuses_field_by_field(served: Served) -> None:
    compared, refused = _compare(served, [spec for check in CHECKS for spec in _specs_of(check)])
    assert compared > 500
    assert refused > 100 or served.policy.privileges


@given(st.lists(specs(), min_size=8, max_size=16))
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_api_server_refuses_what_the_operator_refuses_of_any_spec(
    served: Served, generated: list[dict[str, Any]]
) -> None:
    _compare(served, generated)


def test_a_change_of_the_spec_is_refused_as_its_creation_is(served: Served) -> None:
    served.apply(agent("changing", networkPolicy={"enabled": False}))
    refused = agent("changing", networkPolicy={"enabled": True, "redisPort": 9999})

    for command in (
        ["apply", "--server-side", "--force-conflicts", "-f", "-"],
        ["replace", "-f", "-"],
        ["patch", "agentdeployment", "changing", "--type=merge", "-p", json.dumps({"spec": refused["spec"]})],
    ):
        with pytest.raises(TestbedError, match=r"denied request: .*spec\.networkPolicy"):
            served.kubectl(*command, stdin=json.dumps(refused))
    assert "redisPort" not in served.get("agentdeployment", "changing")["spec"]["networkPolicy"]


@pytest.mark.parametrize("served", ["defaults"], indirect=True)
def test_agents_older_than_the_policy_can_be_scaled_labelled_deleted_and_get_a_status(served: Served) -> None:
    binding = ["validatingadmissionpolicybinding", f"{served.name}-{RELEASE}"]
    text = served.cluster.kubectl("get", *binding, "-ojson")
    refused = agent("older", networkPolicy={"redisPort": 9999})
    served.cluster.kubectl("delete", *binding)
    eventually(lambda: served.answers([{**refused, "metadata": {"name": "a0"}}])["a0"] == "", "no policy")
    served.apply(refused)
    restored = json.loads(text)
    restored["metadata"] = {key: restored["metadata"][key] for key in ("name", "labels", "annotations")}
    served.cluster.kubectl("create", "-f", "-", stdin=json.dumps(restored))
    eventually(lambda: served.answers([{**refused, "metadata": {"name": "a0"}}])["a0"], "the policy is in force")

    served.kubectl("scale", "agentdeployment", "older", "--replicas=2")
    status = json.dumps({"status": {"observedGeneration": 1}})
    served.kubectl("patch", "agentdeployment", "older", "--subresource=status", "--type=merge", "-p", status)
    served.kubectl("annotate", "agentdeployment", "older", "example.com/note=kept")
    with pytest.raises(TestbedError, match="denied request"):
        served.kubectl("label", "agentdeployment", "older", "portside.dev/operator=blue")
    # The garbage collector removes the finalizer, which is a change too.
    served.kubectl("delete", "agentdeployment", "older", "--cascade=foreground", "--timeout=60s")


def _compare(served: Served, generated: list[dict[str, Any]]) -> tuple[int, int]:
    """Compare operator and API server; return how many specs could be compared, and how many of those are refused."""
    documents = [agent(f"a{index}") | {"spec": spec} for index, spec in enumerate(generated)]
    valid = {}
    for document in documents:
        try:
            valid[document["metadata"]["name"]] = document, parse(document).spec
        except InvalidAgentError:
            continue
    answers = served.answers([document for document, _ in valid.values()])
    # Where the definition rejects an object, no policy is evaluated.
    compared = {name: each for name, each in valid.items() if "invalid" not in answers[name]}
    count = 0
    for name, (document, spec) in compared.items():
        ours = {str(fault) for fault in refusals(spec, served.policy)}
        said = answers[name].partition("denied request: ")[2]
        # Too much for one message, or of a type that no pod could have: it is refused nevertheless.
        if "does not allow this spec" in said or said.endswith(" …") or "resulted in error" in answers[name]:
            assert ours, (document, answers[name])
        else:
            assert ours == set(filter(None, said.split("; "))), (document, answers[name])
        count += bool(ours)
    return len(compared), count


def _specs_of(check: Check) -> Iterator[dict[str, Any]]:
    """Yield specs with a value in the field of the check: values that it refuses, and values that it does not."""
    listed = POLICIES["lists"].get(check.setting, [])
    values: list[Any] = [*SAMPLES, *(listed if isinstance(listed, list) else [])]
    if isinstance(check.test, Is | IsNot):
        values += [value for value in check.test.values if value is not None]
    elif isinstance(check.test, PortListed):
        values = list(ADDRESSES)
    elif isinstance(check.test, KeysListed):
        keys = ("a", "ab", "b", "c", "example.com/x", "example.org/x", "hostPath", "configMap")
        values = [{key: "x"} for key in keys] + [{"b": "x", "c": "x", "example.com/y": "x"}]
    for value in values:
        for on in (True, False):
            spec = _at(check.path, value)
            if check.when is not None:
                other = check.when.value if on else not check.when.value
                _merge(spec, _at(check.when.path, other if isinstance(check.when.value, bool) or on else "hpa"))
            elif not on:
                continue
            _merge(spec, {"agent": {"provider": "echo"}})
            _complete(spec)
            yield spec


def _at(path: str, value: Any) -> dict[str, Any]:
    first, _, rest = path.partition(".")
    inner = _at(rest, value) if rest else value
    return {first.removesuffix("[]"): [inner] if first.endswith("[]") else inner}


def _merge(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


SCHEMA = structural(AgentSpec)
# What the API requires in addition to the field of a check.
REQUIRED = {"name": "it", "image": "busybox", "port": 80, "containerPort": 80}


def _complete(spec: dict[str, Any]) -> None:
    """Add what the definition requires."""
    _complete_object(spec, SCHEMA)
    if spec.get("httpRoute"):
        spec["httpRoute"]["parentRefs"] = [{"name": "gateway"}]
    if spec.get("autoscaling"):
        spec["autoscaling"].setdefault("prometheusAddress", "http://prometheus:9090")


def _complete_object(value: Any, schema: Schema) -> None:
    if isinstance(value, list):
        for item in value:
            _complete_object(item, schema.get("items", {}))
    if not isinstance(value, dict):
        return
    for name in schema.get("required", []):
        value.setdefault(name, REQUIRED.get(name, "x"))
    for name, child in value.items():
        _complete_object(child, schema.get("properties", {}).get(name, {}))
