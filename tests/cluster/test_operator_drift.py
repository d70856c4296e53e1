"""Drift: foreign changes to an agent's objects are reverted, however they were written; allowed ones are kept."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.eventually import eventually
from support.operator import Namespace, agent, operator, rights_everywhere
from testbed.cluster import Cluster

SIDECAR = {"name": "intruder", "image": "intruder:1"}


@pytest.fixture(scope="module")
def rights(control_plane: Cluster) -> Iterator[Path]:
    """A kubeconfig with the documented rights on the whole cluster."""
    with rights_everywhere(control_plane, "portside-drift-test") as kubeconfig:
        yield kubeconfig


@pytest.fixture(scope="module")
def running(rights: Path) -> Iterator[None]:
    """The operator, on all namespaces."""
    with operator(rights):
        yield


@pytest.fixture
def here(control_plane: Cluster, namespace: str, running: None) -> Namespace:
    """A fresh namespace, watched by the operator, with an agent."""
    here = Namespace(control_plane, namespace)
    here.apply(agent(autoscaling={"enabled": True}))
    for kind in ("horizontalpodautoscaler", "networkpolicy", "deployment"):
        here.get(kind)
    return here


def content(document: dict[str, Any]) -> dict[str, Any]:
    """Return the object without the fields that the cluster and other controllers may write."""
    return {key: value for key, value in document.items() if key not in {"metadata", "status"}}


def patch(here: Namespace, kind: str, change: Any, form: str = "strategic", *arguments: str) -> None:
    output = here.kubectl("patch", kind, "hello", f"--type={form}", "-p", json.dumps(change), *arguments)
    assert "no change" not in output


def in_pod(**change: Any) -> dict[str, Any]:
    return {"spec": {"template": {"spec": change}}}


def add(path: str, value: Any) -> list[dict[str, Any]]:
    return [{"op": "add", "path": path, "value": value}]


AGENT = "/spec/template/spec/containers/0"
CHANGES: dict[str, tuple[str, Any, str]] = {
    "container": ("deployment", in_pod(containers=[SIDECAR]), "strategic"),
    "container by JSON patch": ("deployment", add("/spec/template/spec/containers/-", SIDECAR), "json"),
    "init container": ("deployment", in_pod(initContainers=[SIDECAR]), "strategic"),
    "variable": (
        "deployment",
        in_pod(containers=[{"name": "agent", "env": [{"name": "A", "value": "b"}]}]),
        "strategic",
    ),
    "command": ("deployment", add(f"{AGENT}/command", ["sleep", "1000"]), "json"),
    "envFrom": ("deployment", add(f"{AGENT}/envFrom/-", {"secretRef": {"name": "s", "optional": True}}), "json"),
    "volume": ("deployment", in_pod(volumes=[{"name": "more", "emptyDir": {}}]), "strategic"),
    "mount": ("deployment", add(f"{AGENT}/volumeMounts/-", {"name": "tmp", "mountPath": "/more"}), "json"),
    "port": ("deployment", add(f"{AGENT}/ports/-", {"containerPort": 22, "name": "ssh"}), "json"),
    "host network": ("deployment", in_pod(hostNetwork=True), "merge"),
    "node": ("deployment", in_pod(nodeSelector={"disk": "mine"}), "merge"),
    "tolerations": ("deployment", in_pod(tolerations=[{"operator": "Exists"}]), "merge"),
    "a pause after readiness": ("deployment", {"spec": {"minReadySeconds": 30}}, "merge"),
    "pod annotation": ("deployment", {"spec": {"template": {"metadata": {"annotations": {"a.b/c": "d"}}}}}, "merge"),
    "pod label": ("deployment", {"spec": {"template": {"metadata": {"labels": {"team": "red"}}}}}, "merge"),
    "setting": ("configmap", {"data": {"SYSTEM_PROMPT": "Be rude."}}, "merge"),
    "binary setting": ("configmap", {"binaryData": {"SYSTEM_PROMPT": "QmUgcnVkZS4="}}, "merge"),
    "service port": ("service", add("/spec/ports/-", {"name": "more", "port": 22}), "json"),
    "external address": ("service", {"spec": {"externalIPs": ["192.0.2.1"]}}, "merge"),
    "scaling": (
        "horizontalpodautoscaler",
        {"spec": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 1}}}},
        "merge",
    ),
    "network": ("networkpolicy", add("/spec/egress/-", {}), "json"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_foreign_additions_are_removed(here: Namespace, name: str) -> None:
    kind, change, form = CHANGES[name]
    before = content(here.get(kind))

    patch(here, kind, change, form)

    eventually(lambda: content(here.get(kind)) == before, f"{kind} is as it was; now: {content(here.get(kind))}")


def test_variables_set_with_kubectl_are_removed(here: Namespace) -> None:
    before = content(here.get("deployment"))

    here.kubectl("set", "env", "deployment/hello", "SYSTEM_PROMPT=Be rude.")

    eventually(lambda: content(here.get("deployment")) == before, "it is gone")


def test_additions_of_several_managers_are_removed_at_once(here: Namespace) -> None:
    before = content(here.get("deployment"))
    for manager in ("one", "portside-operator"):
        variable = in_pod(containers=[{"name": "agent", "env": [{"name": manager.upper(), "value": "1"}]}])
        patch(here, "deployment", variable, "strategic", f"--field-manager={manager}")
    applied = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "hello", "annotations": {"example.com/note": "kept"}},
        "spec": {"template": {"spec": {"containers": [SIDECAR], "priorityClassName": "system-node-critical"}}},
    }
    arguments = ("apply", "--server-side", "--field-manager=two", "-f", "-")
    here.kubectl(*arguments, stdin=json.dumps(applied))

    eventually(lambda: content(here.get("deployment")) == before, "all of it is gone")
    assert here.get("deployment")["metadata"]["annotations"]["example.com/note"] == "kept"


def test_additions_of_a_client_that_clears_the_managed_fields_are_removed(here: Namespace) -> None:
    before = content(here.get("deployment"))
    fields = {"op": "replace", "path": "/metadata/managedFields", "value": [{}]}

    patch(here, "deployment", [fields, *add("/spec/template/spec/hostPID", True)], "json")

    eventually(lambda: content(here.get("deployment")) == before, "it is gone")


def test_changes_that_restart_pods_are_kept(here: Namespace) -> None:
    here.kubectl("rollout", "restart", "deployment/hello")
    annotations = {"reloader.stakater.com/last-reloaded-from": "{}"}
    patch(here, "deployment", {"spec": {"template": {"metadata": {"annotations": annotations}}}}, "merge")
    variables = [{"name": "STAKATER_PROMPTS_CONFIGMAP", "value": "1"}, {"name": "STAKATER_NOT", "value": "1"}]
    patch(here, "deployment", in_pod(containers=[{"name": "agent", "env": variables}]))
    here.kubectl("scale", "deployment", "hello", "--replicas=3")

    def names() -> list[str]:
        return [each["name"] for each in here.get("deployment")["spec"]["template"]["spec"]["containers"][0]["env"]]

    eventually(lambda: names() == ["STAKATER_PROMPTS_CONFIGMAP"], "only Reloader's variable stays")
    found = here.get("deployment")
    kept = found["spec"]["template"]["metadata"]["annotations"].keys()
    assert kept >= {"kubectl.kubernetes.io/restartedAt", *annotations}
    assert found["spec"]["replicas"] == 3


@contextmanager
def admission_adds_a_container(here: Namespace) -> Iterator[None]:
    """A cluster policy that adds a container to each Deployment of the namespace that lacks it."""
    name = f"sidecar-{here.name}"
    rule = {
        "apiGroups": ["apps"],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["deployments"],
    }
    expression = """
        object.spec.template.spec.containers.exists(c, c.name == "injected") ? [] : [JSONPatch{
          op: "add", path: "/spec/template/spec/containers/-",
          value: Object.spec.template.spec.containers{name: "injected", image: "sidecar:1"}
        }]"""
    api = "admissionregistration.k8s.io/v1"
    policy = {
        "apiVersion": api,
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [rule]},
            "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}],
        },
    }
    selector = {"matchLabels": {"kubernetes.io/metadata.name": here.name}}
    binding = {
        "apiVersion": api,
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "matchResources": {"namespaceSelector": selector}},
    }
    here.apply(policy)
    here.apply(binding)
    try:
        yield
    finally:
        here.kubectl("delete", "mutatingadmissionpolicy,mutatingadmissionpolicybinding", name)


def containers(here: Namespace) -> list[str]:
    return [each["name"] for each in in_pods(here, "containers")]


def in_pods(here: Namespace, name: str) -> Any:
    return here.get("deployment")["spec"]["template"]["spec"].get(name)


def test_what_admission_adds_on_every_write_is_kept_and_reported(here: Namespace) -> None:
    with admission_adds_a_container(here):

        def is_added() -> bool:
            here.kubectl("annotate", "--overwrite", "deployment", "hello", f"example.com/now={time.monotonic()}")
            return "injected" in containers(here)

        eventually(is_added, "the policy is in force")
        here.await_condition("Drifted", "True", "ChangedByAdmission")
        version = here.get("deployment")["metadata"]["generation"]
        here.apply(agent(autoscaling={"enabled": True, "maxReplicas": 7}))
        eventually(lambda: here.get("horizontalpodautoscaler")["spec"]["maxReplicas"] == 7, "the operator went on")
        assert here.get("deployment")["metadata"]["generation"] == version, "it does not fight"
        assert "containers[name=injected]" in here.condition("Drifted")["message"]

        here.apply(agent(priorityClassName="system-cluster-critical"))
        eventually(lambda: in_pods(here, "priorityClassName") == "system-cluster-critical", "a change is carried out")
        assert containers(here) == ["agent", "injected"]
        here.await_condition("Drifted", "True", "ChangedByAdmission")
    change = json.dumps([{"op": "remove", "path": "/spec/template/spec/containers/1"}])

    def is_removed() -> bool:
        # The API server may apply the policy for a moment after its deletion.
        here.kubectl("patch", "deployment", "hello", "--type=json", "-p", change, check=False)
        return containers(here) == ["agent"]

    eventually(is_removed, "the policy adds it no longer")
    eventually(lambda: not here.condition("Drifted"), "it is reported no longer")
    assert containers(here) == ["agent"]


def test_a_change_that_keeps_coming_back_is_kept_and_reported(here: Namespace) -> None:
    seen = 0

    def insist() -> bool:
        nonlocal seen
        if "intruder" not in containers(here):
            patch(here, "deployment", in_pod(containers=[SIDECAR]), "strategic", "--field-manager=insistent")
            seen += 1
        return bool(here.condition("Drifted"))

    eventually(insist, "the operator gives up")
    drifted = here.await_condition("Drifted", "True", "ChangedAgain")
    assert "containers[name=intruder] (field manager insistent)" in drifted["message"]
    assert "intruder" in containers(here)
    assert seen == 6, "it was put back five times"
    # The spec is still applied.
    here.apply(agent(autoscaling={"enabled": True}, agent={"provider": "echo", "systemPrompt": "Be kind."}))
    here.await_condition("Drifted", "True", "ChangedAgain")
    reasons = [event["reason"] for event in here.list("events") if event["involvedObject"]["kind"] == "AgentDeployment"]
    assert "ChangedAgain" in reasons
    patch(here, "deployment", in_pod(containers=[{"name": "intruder", "$patch": "delete"}]))
    eventually(lambda: not here.condition("Drifted"), "it is reported no longer")
