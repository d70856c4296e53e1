"""What the operator creates, restores and deletes, at a real API server and with exactly the documented rights."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.eventually import eventually
from support.operator import Namespace, agent, operator, rights_everywhere, service_account
from testbed.cluster import Cluster, OwnCluster

CHILDREN = ("configmap", "service", "deployment")


@pytest.fixture(scope="module")
def rights(control_plane: Cluster) -> Iterator[Path]:
    """A kubeconfig with the documented rights on the whole cluster."""
    with rights_everywhere(control_plane, "portside-operator-test") as kubeconfig:
        yield kubeconfig


@pytest.fixture(scope="module")
def running(rights: Path) -> Iterator[None]:
    """The operator, on all namespaces."""
    with operator(rights):
        yield


@pytest.fixture
def here(control_plane: Cluster, namespace: str, running: None) -> Namespace:
    """A fresh namespace, watched by the operator."""
    return Namespace(control_plane, namespace)


@pytest.fixture
def unwatched(control_plane: Cluster, namespace: str, rights: Path) -> Namespace:
    """A fresh namespace for tests that start operators of their own."""
    return Namespace(control_plane, namespace)


def test_every_object_is_created_and_owned_by_its_agent(here: Namespace) -> None:
    here.apply(agent(autoscaling={"enabled": True}, apiKey={"value": "sk-test-key"}))

    uid = here.get("agentdeployment")["metadata"]["uid"]
    for kind in (*CHILDREN, "horizontalpodautoscaler", "secret"):
        (reference,) = here.get(kind)["metadata"]["ownerReferences"]
        assert reference["uid"] == uid
        assert reference["controller"] is True
    assert here.get("secret")["data"] == {"ANTHROPIC_API_KEY": "c2stdGVzdC1rZXk="}


def test_a_runtime_can_be_added_and_removed(here: Namespace) -> None:
    def pods() -> tuple[list[str], int | None]:
        spec = here.get("deployment")["spec"]["template"]["spec"]
        return [each["name"] for each in spec.get("initContainers", [])], spec["securityContext"].get("runAsUser")

    here.apply(agent())
    eventually(lambda: pods() == ([], 10001), "there is no runtime")
    here.apply(agent(runtime={"image": "example.com/agent:1"}))
    # The pods name no user, so that the runtime has that of its image.
    eventually(lambda: pods() == (["runtime"], None), "there is a runtime")
    here.apply(agent())
    eventually(lambda: pods() == ([], 10001), "there is no runtime again")


def test_the_pods_of_a_runtime_pass_the_restricted_pod_security_standard(here: Namespace) -> None:
    here.apply(agent(runtime={"image": "example.com/agent:1"}))

    eventually(lambda: here.list("pods"), "the namespace, which enforces it, admits a pod")


def test_the_pods_pass_the_restricted_pod_security_standard(here: Namespace) -> None:
    here.apply(agent(apiKey={"value": "sk-test-key"}))

    eventually(lambda: here.list("pods"), "the namespace, which enforces it, admits a pod")


def test_a_change_of_the_spec_reaches_the_deployment_and_replaces_the_pods(here: Namespace) -> None:
    here.apply(agent())
    before = here.get("deployment")["spec"]["template"]["metadata"]["annotations"]

    here.apply(agent(agent={"provider": "echo", "systemPrompt": "Be kind."}))

    eventually(lambda: here.get("configmap")["data"].get("SYSTEM_PROMPT") == "Be kind.", "the setting is there")
    eventually(
        lambda: here.get("deployment")["spec"]["template"]["metadata"]["annotations"] != before,
        "the pod template is another one",
    )


def test_a_changed_inline_key_reaches_the_secret(here: Namespace) -> None:
    here.apply(agent(apiKey={"value": "one"}))
    here.get("secret")

    here.apply(agent(apiKey={"value": "two"}))

    eventually(lambda: here.get("secret")["data"] == {"ANTHROPIC_API_KEY": "dHdv"}, "the Secret holds the new key")


def test_a_field_removed_from_the_spec_is_removed_from_the_objects(here: Namespace) -> None:
    here.apply(agent(agent={"provider": "echo", "systemPrompt": "Be kind."}, nodeSelector={"disk": "fast"}))
    eventually(lambda: here.get("deployment")["spec"]["template"]["spec"].get("nodeSelector"), "it is set")

    here.apply(agent())

    eventually(lambda: "SYSTEM_PROMPT" not in here.get("configmap")["data"], "the setting is gone")
    eventually(
        lambda: "nodeSelector" not in here.get("deployment")["spec"]["template"]["spec"], "the node selector is gone"
    )


@pytest.mark.parametrize("kind", [*CHILDREN, "horizontalpodautoscaler"])
def test_a_deleted_child_is_recreated(here: Namespace, kind: str) -> None:
    here.apply(agent(autoscaling={"enabled": True}))
    uid = here.get(kind)["metadata"]["uid"]

    here.kubectl("delete", kind, "hello")

    eventually(lambda: (here.find(kind) or {"metadata": {"uid": uid}})["metadata"]["uid"] != uid, f"{kind} is back")


def test_a_deleted_secret_is_recreated_while_pods_wait_for_it(here: Namespace) -> None:
    here.apply(agent(apiKey={"value": "sk-test-key"}))
    uid = here.get("secret")["metadata"]["uid"]

    here.kubectl("delete", "secret", "hello")

    eventually(lambda: (here.find("secret") or {"metadata": {"uid": uid}})["metadata"]["uid"] != uid, "it is back")


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("configmap", {"data": {"MODEL_PROVIDER": "anthropic"}}),
        ("service", {"spec": {"ports": [{"name": "http", "port": 81, "targetPort": "http"}]}}),
        ("deployment", {"spec": {"replicas": 7}}),
        ("deployment", {"spec": {"template": {"spec": {"automountServiceAccountToken": True}}}}),
        ("deployment", {"metadata": {"labels": {"app.kubernetes.io/managed-by": "me"}}}),
        ("horizontalpodautoscaler", {"spec": {"maxReplicas": 2}}),
    ],
)
def test_an_edited_child_is_restored(here: Namespace, kind: str, patch: dict[str, Any]) -> None:
    autoscaled = kind == "horizontalpodautoscaler"
    here.apply(agent(autoscaling={"enabled": autoscaled}))
    wanted = _said_by_us(here.get(kind))

    here.kubectl("patch", kind, "hello", "--type=merge", "-p", json.dumps(patch))

    eventually(lambda: _said_by_us(here.get(kind)) == wanted, f"{kind} is as it was")


def test_foreign_additions_to_a_child_are_left_alone(here: Namespace) -> None:
    here.apply(agent())
    here.get("deployment")
    here.kubectl("label", "deployment", "hello", "team=blue")
    here.kubectl("annotate", "service", "hello", "example.com/note=kept")

    here.apply(agent(replicas=2))

    eventually(lambda: here.get("deployment")["spec"]["replicas"] == 2, "the change has arrived")
    assert here.get("deployment")["metadata"]["labels"]["team"] == "blue"
    assert here.get("service")["metadata"]["annotations"]["example.com/note"] == "kept"


def test_autoscaling_leaves_the_number_of_pods_alone(here: Namespace) -> None:
    here.apply(agent(autoscaling={"enabled": True}))
    here.get("horizontalpodautoscaler")
    here.kubectl("scale", "deployment", "hello", "--replicas=4")

    here.apply(agent(autoscaling={"enabled": True}, service={"port": 8080}))

    eventually(lambda: here.get("service")["spec"]["ports"][0]["port"] == 8080, "the operator has passed by")
    eventually(lambda: _url(here) == f"http://hello.{here.name}.svc:8080", "it is done with this spec")
    assert here.get("deployment")["spec"]["replicas"] == 4


def test_turning_autoscaling_on_keeps_the_existing_pods(here: Namespace) -> None:
    here.apply(agent(replicas=3))
    eventually(lambda: here.get("deployment")["spec"]["replicas"] == 3, "three pods are wanted")

    here.apply(agent(replicas=3, autoscaling={"enabled": True, "minReplicas": 2}))
    here.get("horizontalpodautoscaler")

    assert here.get("deployment")["spec"]["replicas"] == 3


def test_turning_autoscaling_off_removes_the_autoscaler_and_sets_the_replicas(here: Namespace) -> None:
    here.apply(agent(autoscaling={"enabled": True}))
    here.get("horizontalpodautoscaler")

    here.apply(agent(replicas=2))

    eventually(lambda: here.find("horizontalpodautoscaler") is None, "the autoscaler is gone")
    eventually(lambda: here.get("deployment")["spec"]["replicas"] == 2, "two pods are wanted")


def test_a_secret_that_is_no_longer_desired_is_deleted(here: Namespace) -> None:
    here.apply(agent(apiKey={"value": "sk-test-key"}))
    here.get("secret")
    here.get("deployment")

    here.apply(agent(apiKey={"secretName": "mine"}))

    eventually(lambda: here.find("secret") is None, "our Secret is gone")


@pytest.mark.parametrize("kind", ["configmap", "service", "secret"])
def test_a_foreign_object_of_the_same_name_is_left_alone(here: Namespace, kind: str) -> None:
    theirs: dict[str, dict[str, Any]] = {
        "configmap": {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}},
        "service": {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 1}]}},
        "secret": {"apiVersion": "v1", "kind": "Secret", "stringData": {"a": "b"}},
    }
    here.apply({**theirs[kind], "metadata": {"name": "hello"}})
    before = here.get(kind)["metadata"]["resourceVersion"]

    here.apply(agent(apiKey={"value": "sk-test-key"}))

    said = here.await_condition("Degraded", "True", "NameConflict")["message"]
    assert f"{here.get(kind)['kind']} hello exists and is not managed by this AgentDeployment" in said
    assert here.condition("Ready")["status"] == "False"
    assert here.get(kind)["metadata"]["resourceVersion"] == before
    if kind != "service":
        assert here.find("deployment") is None, "pods must not start with foreign settings"


def test_a_conflict_ends_when_the_other_object_is_deleted(here: Namespace) -> None:
    here.kubectl("create", "configmap", "hello")
    here.apply(agent())
    here.await_condition("Degraded", "True", "NameConflict")

    here.kubectl("delete", "configmap", "hello")

    here.await_condition("Degraded", "False", "AsExpected")
    here.get("deployment")


def test_deleting_the_agent_removes_all_its_objects(here: Namespace) -> None:
    here.apply(agent(autoscaling={"enabled": True}, apiKey={"value": "sk-test-key"}))
    here.get("horizontalpodautoscaler")

    here.kubectl("delete", "agentdeployment", "hello")

    for kind in (*CHILDREN, "horizontalpodautoscaler", "secret"):
        eventually(lambda kind=kind: here.find(kind) is None, f"{kind} is gone")  # type: ignore[misc]


def test_a_recreated_agent_gets_objects_of_its_own(here: Namespace) -> None:
    here.apply(agent())
    here.get("deployment")

    here.kubectl("delete", "agentdeployment", "hello")
    here.apply(agent())

    uid = here.get("agentdeployment")["metadata"]["uid"]
    for kind in CHILDREN:
        eventually(
            lambda kind=kind: (
                (here.find(kind) or {"metadata": {}})["metadata"].get("ownerReferences", [{"uid": ""}])[0]["uid"]  # type: ignore[misc]
                == uid
            ),
            f"{kind} belongs to the new one",
        )


def test_children_of_a_foreground_deletion_are_not_recreated(here: Namespace) -> None:
    here.apply(agent())
    here.get("deployment")

    here.kubectl("delete", "agentdeployment", "hello", "--cascade=foreground", "--timeout=60s")

    eventually(lambda: here.find("deployment") is None, "the Deployment is gone")


def test_a_restart_and_an_idle_operator_write_nothing(unwatched: Namespace, rights: Path) -> None:
    unwatched.apply(agent("one", autoscaling={"enabled": True}, apiKey={"value": "sk-test-key"}))
    unwatched.apply(agent("two", resources={"requests": {"cpu": "0.5", "memory": "1000Mi"}, "limits": {"cpu": 1}}))
    unwatched.apply(agent("three", tolerations=[{"operator": "Exists"}], podLabels={"team": "blue"}))
    with operator(rights, unwatched.name):
        for name in ("one", "two", "three"):
            unwatched.await_condition("Ready", "False", "RollingOut", name)
            eventually(lambda name=name: _replicas(unwatched, name) == 1, "its pods are counted")  # type: ignore[misc]
        # The HorizontalPodAutoscaler controller reports on a new autoscaler only at its next sync.
        unwatched.await_condition("ScalingActive", "False", "FailedGetResourceMetric", "one")
    before = _versions(unwatched)
    writes = _writes_by_operators(unwatched)

    with operator(rights, unwatched.name) as again:
        eventually(lambda: _reconciles(again.health_port) >= 3, "the new operator has reconciled all agents")
        assert again.stop() == 0

    assert _versions(unwatched) == before
    assert _writes_by_operators(unwatched) == writes


def test_changes_made_while_the_operator_was_down_are_reverted(unwatched: Namespace, rights: Path) -> None:
    unwatched.apply(agent(apiKey={"value": "sk-test-key"}))
    with operator(rights, unwatched.name):
        unwatched.get("deployment")
    unwatched.kubectl("delete", "service", "hello")
    unwatched.kubectl("scale", "deployment", "hello", "--replicas=5")
    unwatched.kubectl("patch", "secret", "hello", "-p", json.dumps({"stringData": {"ANTHROPIC_API_KEY": "other"}}))

    with operator(rights, unwatched.name):
        unwatched.get("service")
        eventually(lambda: unwatched.get("deployment")["spec"]["replicas"] == 1, "one pod is wanted again")
        eventually(
            lambda: unwatched.get("secret")["data"]["ANTHROPIC_API_KEY"] == "c2stdGVzdC1rZXk=", "our key is back"
        )


def test_an_agent_deleted_while_the_operator_was_down_leaves_nothing(unwatched: Namespace, rights: Path) -> None:
    unwatched.apply(agent())
    with operator(rights, unwatched.name):
        unwatched.get("deployment")

    unwatched.kubectl("delete", "agentdeployment", "hello", "--timeout=30s")

    for kind in CHILDREN:
        eventually(lambda kind=kind: unwatched.find(kind) is None, f"{kind} is gone")  # type: ignore[misc]


def test_rights_in_one_namespace_are_enough_for_that_namespace(control_plane: Cluster, unwatched: Namespace) -> None:
    with (
        service_account(control_plane, unwatched.name, cluster_wide=False) as kubeconfig,
        operator(kubeconfig, unwatched.name),
    ):
        unwatched.apply(agent(apiKey={"value": "sk-test-key"}))
        unwatched.await_condition("Ready", "False", "RollingOut")
        unwatched.get("secret")


def _said_by_us(child: dict[str, Any]) -> dict[str, Any]:
    """Return the object without the fields that change by themselves."""
    metadata = {key: child["metadata"].get(key) for key in ("name", "labels", "annotations", "ownerReferences")}
    annotations = {key: value for key, value in metadata["annotations"].items() if not key.startswith("deployment.")}
    content = {key: value for key, value in child.items() if key not in {"metadata", "status"}}
    return {**content, "metadata": {**metadata, "annotations": annotations}}


def _url(here: Namespace) -> str | None:
    url: str | None = here.get("agentdeployment").get("status", {}).get("url")
    return url


def _replicas(here: Namespace, name: str) -> int | None:
    replicas: int | None = here.get("agentdeployment", name).get("status", {}).get("replicas")
    return replicas


def _versions(here: Namespace) -> dict[str, str]:
    kinds = "agentdeployments,configmaps,services,deployments,horizontalpodautoscalers,secrets"
    return {
        f"{each['kind']} {each['metadata']['name']}": each["metadata"]["resourceVersion"]
        for each in here.list(kinds)
        # The HorizontalPodAutoscaler controller reports on the metrics that it cannot read here.
        if each["kind"] != "HorizontalPodAutoscaler"
    }


def _writes_by_operators(here: Namespace) -> list[str]:
    """Return all writes of operators in the namespace in the API server's audit log, where it can be read."""
    if not isinstance(here.cluster, OwnCluster):
        return []
    events = [json.loads(line) for line in here.cluster.audit_log.read_text().splitlines()]
    uris = [event["requestURI"] for event in events if event.get("userAgent", "").startswith("agent-operator/")]
    assert uris, "the audit log knows of the operator's writes"
    return [uri for uri in uris if f"/namespaces/{here.name}/" in uri and "dryRun=All" not in uri]


def _reconciles(port: int) -> float:
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    line = next(
        line for line in text.splitlines() if line.startswith('agent_operator_reconciles_total{result="success"}')
    )
    return float(line.split()[-1])
