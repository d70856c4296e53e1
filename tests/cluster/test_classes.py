"""Classes at a real API server: the definition, the admission policy, the operator that applies them, and the tools."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_operator.api.agent_class import parse_class
from agent_operator.api.validation import InvalidAgentError, parse
from agent_operator.classes.choice import REFUSED, Classes, apply_class
from cluster.tools_bed import tool
from support.eventually import eventually
from support.operator import Namespace, OperatorProcess, agent, install_definition, operator, service_account
from testbed import paths
from testbed.cluster import Cluster
from testbed.errors import TestbedError
from unit.operator.strategies import specs
from unit.operator.test_classes import BOUNDED

CHART = str(paths.REPOSITORY / "helm" / "agent-operator")
SAMPLE = paths.REPOSITORY / "manifests" / "classes" / "standard.yaml"
PRICES = {"claude-sonnet-5-5": {"input": "3", "output": "15"}}
# Everything that a class can bound, with defaults of which some are within the bounds.
WIDE: dict[str, Any] = {
    "defaults": {
        "agent": {"model": "claude-haiku-5", "provider": "echo"},
        "image": {"repository": "registry.example.com/agent"},
        "replicas": 2,
        "resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "1Gi"}},
        "redis": {"url": "redis://shared"},
        "budget": {"period": "day", "tokens": 1000, "prices": PRICES},
    },
    "bounds": {
        "imageRegistries": ["registry.example.com", "quay.io/team"],
        "providers": ["echo"],
        "models": ["claude-haiku-*", "m*"],
        "modelHosts": ["*.example.com", "localhost"],
        "toolHosts": ["tools.example.com", "*.svc"],
        "budget": {"tokensPerMonth": 100_000, "costPerMonth": "50"},
        "replicas": {"min": 2, "max": 5},
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
        "exposure": {
            "ingress": True,
            "httpRoute": False,
            "serviceTypes": ["ClusterIP"],
            "hosts": ["*.apps.example.com"],
        },
    },
}
# Shares of a budget, of which one is a default.
SHARES: dict[str, Any] = {
    "defaults": {"redis": {"url": "redis://shared"}, "budget": {"perClient": {"tokens": 1000}, "prices": PRICES}},
    "bounds": {"budget": {"perClient": {"tokensPerMonth": 2000}, "perTenant": {"costPerMonth": "10"}}},
}
NARROW: dict[str, Any] = {
    "bounds": {"imageRegistries": [], "providers": [], "models": [], "modelHosts": [], "toolHosts": []}
}


def class_of(name: str, spec: dict[str, Any], *, default: bool = False) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name}
    if default:
        metadata["annotations"] = {"portside.dev/default-class": "true"}
    return {"apiVersion": "portside.dev/v1alpha1", "kind": "AgentClass", "metadata": metadata, "spec": spec}


@contextmanager
def existing(cluster: Cluster, *classes: dict[str, Any]) -> Iterator[None]:
    """Have these classes for the duration of the body. (All tests share the control plane.)"""
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(classes)})
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=listed)
    try:
        yield
    finally:
        cluster.kubectl("delete", "--ignore-not-found", "-f", "-", stdin=listed)


@pytest.fixture(scope="module")
def defined(control_plane: Cluster) -> Cluster:
    install_definition(control_plane)
    return control_plane


def test_the_sample_is_accepted_as_written(defined: Cluster) -> None:
    said = defined.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", str(SAMPLE))

    assert "agentclass.portside.dev/standard serverside-applied" in said


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"bounds": {"replicas": {"min": 3, "max": 2}}}, "bounds.replicas.min must not exceed"),
        ({"bounds": {"toolHosts": ["http://a"]}}, "spec.bounds.toolHosts"),
        ({"defaults": {"redis": {"url": "redis://a", "secretName": "b"}}}, "set redis.url or redis.secretName"),
        ({"defaults": {"replicas": -1}}, "spec.defaults.replicas"),
    ],
)
def test_the_api_server_refuses_a_class_with_a_fault(defined: Cluster, spec: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TestbedError, match=re.escape(sentence)):
        defined.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(class_of("faulty", spec)))


class Served(Namespace):
    """A namespace under the admission policy of classes."""

    def refusal(self, **spec: Any) -> str:
        """Return the API server's response to the creation of an agent with this spec."""
        return self.answers([agent("a0", **spec)])["a0"]


@pytest.fixture(scope="module")
def served(defined: Cluster) -> Iterator[Served]:
    """A namespace under the admission policy, where nothing has a class yet."""
    with defined.fresh_namespace() as name:
        values = {
            "crds": {"install": False},
            "watchNamespaces": [name],
            "replicaCount": 0,
            "classes": {"admission": True},
        }
        defined.helm("install", "classes", CHART, "-n", name, "-f", "-", stdin=json.dumps(values))
        try:
            here = Served(defined, name)
            # From here on the policy is in force; the API server reads its parameters a moment later.
            with existing(defined, class_of("probe", {"bounds": {"models": []}})):
                eventually(lambda: "probe refuses" in here.refusal(className="probe"), "the policy is in force")
            eventually(lambda: here.refusal(className="probe") == "", "the class is gone")
            yield here
        finally:
            defined.helm("uninstall", "classes", "-n", name)


@pytest.mark.parametrize("name", ["wide", "narrow", "shares"])
def test_the_api_server_refuses_what_the_operator_refuses_field_by_field(served: Served, name: str) -> None:
    given_class = class_of(name, {"wide": WIDE, "narrow": NARROW, "shares": SHARES}[name])
    with existing(served.cluster, given_class):
        eventually(lambda: "refuses" in served.refusal(className=name, envFrom=[ENV]), "the class is in force")

        compared, refused = _compare(served, given_class, [{**ECHO, **spec} for spec in _written()])

    assert compared > 40
    assert refused > 20


@given(st.lists(specs(), min_size=8, max_size=16))
@settings(max_examples=2, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_api_server_refuses_what_the_operator_refuses_of_any_spec(
    served: Served, generated: list[dict[str, Any]]
) -> None:
    given_class = class_of("wide", WIDE)
    with existing(served.cluster, given_class):
        eventually(lambda: "refuses" in served.refusal(className="wide", envFrom=[ENV]), "the class is in force")

        _compare(served, given_class, generated)


def test_a_class_is_in_force_for_those_that_name_it_and_the_default_one_for_the_others(served: Served) -> None:
    small, default = class_of("small", {"bounds": {"replicas": {"max": 1}}}), class_of("medium", {}, default=True)
    default["spec"] = {"bounds": {"replicas": {"max": 3}}}
    with existing(served.cluster, small, default):
        eventually(lambda: "medium refuses" in served.refusal(replicas=4), "the default class is in force")

        assert served.refusal(replicas=3) == ""
        assert "AgentClass small refuses the agent: spec.replicas: " in served.refusal(className="small", replicas=3)
        assert "medium" not in served.refusal(className="small", replicas=4)

        # A changed class needs no change of the policy.
        served.cluster.kubectl(
            "patch", "agentclass", "small", "--type=merge", "-p", '{"spec":{"bounds":{"replicas":{"max":9}}}}'
        )
        eventually(lambda: served.refusal(className="small", replicas=9) == "", "the changed class is in force")


def test_a_class_for_other_namespaces_is_refused_and_is_no_default_here(served: Served) -> None:
    other = class_of("other", {"namespaces": ["somewhere-*"], "bounds": {"models": []}}, default=True)
    with existing(served.cluster, other):
        expected = "spec.className: the class is not for agents of this namespace (namespaces)"
        eventually(lambda: expected in served.refusal(className="other"), "the class is in force")

        assert served.refusal() == ""


def test_agents_older_than_a_bound_can_be_labelled_get_a_status_and_be_deleted(served: Served) -> None:
    given_class = class_of("later", {})
    with existing(served.cluster, given_class):
        served.apply(agent("older", className="later", replicas=3))
        patch = '{"spec":{"bounds":{"replicas":{"max":1}}}}'
        served.cluster.kubectl("patch", "agentclass", "later", "--type=merge", "-p", patch)
        eventually(lambda: served.refusal(className="later", replicas=3), "the bound is in force")

        served.kubectl("label", "agentdeployment", "older", "team=x")
        status = json.dumps({"status": {"observedGeneration": 1}})
        served.kubectl("patch", "agentdeployment", "older", "--subresource=status", "--type=merge", "-p", status)
        with pytest.raises(TestbedError, match=r"AgentClass later refuses the agent: spec\.replicas"):
            served.kubectl("patch", "agentdeployment", "older", "--type=merge", "-p", '{"spec":{"replicas":4}}')
        served.kubectl("delete", "agentdeployment", "older", "--cascade=foreground", "--timeout=60s")


@pytest.fixture(scope="module")
def running(defined: Cluster) -> Iterator[OperatorProcess]:
    """An operator of all namespaces, with the documented rights."""
    with (
        defined.fresh_namespace() as name,
        service_account(defined, name, cluster_wide=True) as kubeconfig,
        operator(kubeconfig) as process,
    ):
        yield process


@pytest.fixture
def here(defined: Cluster, namespace: str, running: OperatorProcess) -> Namespace:
    """A fresh namespace, served by the operator."""
    return Namespace(defined, namespace)


def test_the_operator_applies_the_defaults_and_follows_their_changes(here: Namespace) -> None:
    name = f"{here.name}-a"
    with existing(here.cluster, class_of(name, {"defaults": {"agent": {"model": "one"}, "replicas": 2}})):
        before = agent(className=name)
        here.apply(before)

        eventually(lambda: here.get("deployment")["spec"]["replicas"] == 2, "the default is applied")
        assert here.get("configmap")["data"]["DEFAULT_MODEL"] == "one"
        eventually(lambda: here.get("agentdeployment").get("status", {}).get("className") == name, "the status")
        assert here.get("agentdeployment")["spec"]["replicas"] == 1
        shown = tool(here, "show", "hello")
        assert re.search(r"^replicas +class +2$", shown.stdout, re.MULTILINE)
        assert tool(here, "diff", "hello").returncode == 0

        patch = '{"spec":{"defaults":{"agent":{"model":"two"}}}}'
        here.cluster.kubectl("patch", "agentclass", name, "--type=merge", "-p", patch)
        eventually(lambda: here.get("configmap")["data"]["DEFAULT_MODEL"] == "two", "the change is applied")


def test_a_refused_agent_is_left_as_it_is_until_its_class_allows_it_again(here: Namespace) -> None:
    name = f"{here.name}-b"
    with existing(here.cluster, class_of(name, {"bounds": {"replicas": {"max": 3}}})):
        here.apply(agent(className=name, replicas=3))
        here.await_condition("Ready", "False", "RollingOut")
        version = here.get("deployment")["metadata"]["resourceVersion"]
        patch = '{"spec":{"bounds":{"replicas":{"max":2}},"defaults":{"podLabels":{"team":"x"}}}}'
        here.cluster.kubectl("patch", "agentclass", name, "--type=merge", "-p", patch)

        message = here.await_condition("Ready", "False", REFUSED)["message"]

        assert "spec.replicas: exceeds the maximum of the class (bounds.replicas.max)" in message
        assert here.condition("Degraded")["message"] == message
        doctor = tool(here, "doctor", "hello")
        assert "ClassRefused" in doctor.stdout
        assert tool(here, "diff", "hello").returncode == 2
        here.kubectl("patch", "agentdeployment", "hello", "--type=merge", "-p", '{"spec":{"replicas":2}}')
        eventually(lambda: here.get("deployment")["spec"]["replicas"] == 2, "the agent is applied again")
        assert here.get("deployment")["metadata"]["resourceVersion"] != version


def test_scaling_beyond_a_bound_changes_no_pods_and_scaling_back_ends_it(here: Namespace) -> None:
    name = f"{here.name}-e"
    with existing(here.cluster, class_of(name, {"bounds": {"replicas": {"min": 2, "max": 3}}})):
        here.apply(agent(className=name, replicas=2))
        here.await_condition("Ready", "False", "RollingOut")

        # The API server checks no class here: the object of the subresource `scale` names none.
        for replicas, bound in ((100, "bounds.replicas.max"), (0, "bounds.replicas.min")):
            here.kubectl("scale", "agentdeployment", "hello", f"--replicas={replicas}")
            message = here.await_condition("Ready", "False", REFUSED)["message"]
            assert bound in message
            assert here.get("deployment")["spec"]["replicas"] == 2

        here.kubectl("scale", "agentdeployment", "hello", "--replicas=3")
        eventually(lambda: here.get("deployment")["spec"]["replicas"] == 3, "the agent is scaled within the bounds")
        here.await_condition("Ready", "False", "RollingOut")


def test_an_agent_whose_class_does_not_exist_waits_for_it(here: Namespace) -> None:
    name = f"{here.name}-c"
    here.apply(agent(className=name))
    here.await_condition("Ready", "False", "ClassNotFound")
    assert here.find("deployment") is None

    with existing(here.cluster, class_of(name, {})):
        here.get("deployment")


def test_what_only_a_class_provides_is_checked_with_the_class(here: Namespace) -> None:
    name = f"{here.name}-d"
    with existing(here.cluster, class_of(name, {})):
        here.apply(agent(className=name, agent={"provider": "anthropic"}))
        message = here.await_condition("Ready", "False", "InvalidSpec")["message"]
        assert "provider anthropic needs a key" in message

        patch = '{"spec":{"defaults":{"apiKey":{"secretName":"anthropic"}}}}'
        here.cluster.kubectl("patch", "agentclass", name, "--type=merge", "-p", patch)
        here.get("deployment")


def test_an_operator_of_one_namespace_has_the_classes_of_its_file(
    defined: Cluster, namespace: str, tmp_path: Path
) -> None:
    here = Namespace(defined, namespace)
    file = tmp_path / "classes.yaml"
    file.write_text(json.dumps(class_of("of-the-file", {"defaults": {"replicas": 2}}, default=True)))
    with (
        service_account(defined, namespace, cluster_wide=False) as kubeconfig,
        operator(kubeconfig, namespace, more=[f"--class={file}"]),
    ):
        here.apply(agent())
        eventually(lambda: here.get("deployment")["spec"]["replicas"] == 2, "the default is applied")
        here.apply(agent("other", className="of-the-cluster"))
        here.await_condition("Ready", "False", "ClassNotFound", name="other")


ECHO: dict[str, Any] = {"agent": {"provider": "echo"}}
ENV = {"configMapRef": {"name": "x"}}


def _written() -> list[dict[str, Any]]:
    """Return specs with and without what a bound is about: those of the unit tests, and budgets."""
    budgets: list[dict[str, Any]] = [
        {},
        {"budget": {"tokens": 100_000, "cost": "50"}},
        {"budget": {"tokens": 100_001, "cost": "50.01", "prices": PRICES}},
        {"budget": {"tokens": 5, "action": "warn"}},
        {"budget": {"period": "month", "cost": "1", "prices": {"claude-haiku-5": {"input": "0", "output": "0"}}}},
        {"budget": {"period": "day", "tokens": 3226, "cost": "2"}},
        {"budget": {"perTenant": {"cost": "10"}}},
        {"budget": {"perTenant": {"tokens": 1, "cost": "10.000001"}, "perClient": {"tokens": 2001}}},
        {"budget": {"period": "day", "perTenant": {"cost": "0.4"}, "perClient": {"tokens": 64}}},
    ]
    hosts: list[dict[str, Any]] = [
        {"ingress": {"enabled": True, "hosts": hosts} if hosts else {"enabled": True}}
        for hosts in ([], ["a.apps.example.com"], ["*.apps.example.com"], ["apps.example.com"], ["*.example.com"])
    ]
    addresses: list[dict[str, Any]] = [
        {"agent": {"provider": "echo", "baseUrl": each}}
        for each in ("http://localhost", "https://A.Example.com:443/x", "http://example.com", "http://[fd00::1]:80/")
    ]
    images: list[dict[str, Any]] = [
        {"runtime": {"image": each}}
        for each in (
            "registry.example.com/a:1",
            "registry.example.com:50/a",
            "quay.io/team@sha256:0",
            "quay.io/teams",
        )
    ]
    amounts: list[dict[str, Any]] = [
        {"resources": {"requests": {"cpu": cpu}, "limits": {"memory": memory, "cpu": "9"}}}
        for cpu, memory in ((1, "2Gi"), ("1001m", "2Gi"), ("1e0", 2147483649), ("1100e-3", "2.0Gi"), (".9", "1E"))
    ]
    return [*BOUNDED, *budgets, *hosts, *addresses, *images, *amounts]


def _compare(served: Served, given_class: dict[str, Any], generated: list[dict[str, Any]]) -> tuple[int, int]:
    """Compare operator and API server; return how many specs could be compared, and how many of those are refused."""
    name = given_class["metadata"]["name"]
    documents = [agent(f"a{index}") | {"spec": {**spec, "className": name}} for index, spec in enumerate(generated)]
    classes = Classes({name: parse_class(given_class)})
    ours: dict[str, set[str]] = {}
    for document in documents:
        try:
            refusal = apply_class(parse(document, namespace=served.name), classes).refusal
        except InvalidAgentError:
            continue
        # Rules of the effective spec are not evaluated by the policy.
        if refusal is None or refusal.reason == REFUSED:
            ours[document["metadata"]["name"]] = set(map(str, refusal.faults)) if refusal is not None else set()
    answers = served.answers([each for each in documents if each["metadata"]["name"] in ours])
    compared = {each: faults for each, faults in ours.items() if "is invalid" not in answers[each]}
    for each, faults in compared.items():
        said = answers[each].partition(" refuses the agent: ")[2]
        document = documents[int(each[1:])]
        if said.endswith(" …") or "resulted in error" in answers[each]:
            assert faults, (document, answers[each])
        else:
            assert faults == set(filter(None, said.split("; "))), (document, answers[each])
    return len(compared), len([faults for faults in compared.values() if faults])
