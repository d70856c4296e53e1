"""An agent's status while its pods are healthy or failing. The tests act as the kubelet; all else is real."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_operator.api.crd import crd
from support.eventually import eventually
from support.operator import Namespace, OperatorProcess, agent, install_definition, operator, service_account
from testbed import cluster as clusters
from testbed import definitions, images
from testbed.cluster import Cluster

LAST_TRANSITION = "2026-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def control_plane(kubeconfig: Path | None, control_plane: Cluster) -> Iterator[Cluster]:
    """A separate control plane even when the tests run on a given cluster: a real kubelet would contradict them."""
    if kubeconfig is None:
        yield control_plane
    else:
        with clusters.provided("control-plane", None) as cluster:
            yield cluster


@pytest.fixture(scope="module")
def running(control_plane: Cluster) -> Iterator[OperatorProcess]:
    """The operator, on all namespaces, with the documented rights, on a cluster that serves KEDA's ScaledObjects."""
    install_definition(control_plane)
    definitions.install(control_plane, "ScaledObject")
    control_plane.kubectl("create", "namespace", "portside-status-test")
    try:
        with (
            service_account(control_plane, "portside-status-test", cluster_wide=True) as kubeconfig,
            operator(kubeconfig) as process,
        ):
            yield process
    finally:
        control_plane.kubectl("delete", "namespace", "portside-status-test", "--wait=false")
        control_plane.kubectl("delete", "crd", definitions.definition("ScaledObject")["metadata"]["name"])


@pytest.fixture
def here(control_plane: Cluster, namespace: str, running: OperatorProcess) -> Namespace:
    """A fresh namespace, watched by the operator."""
    return Namespace(control_plane, namespace)


def test_an_agent_is_ready_once_its_pods_are(here: Namespace) -> None:
    here.apply(agent())
    here.await_condition("Ready", "False", "RollingOut")

    _serve(here)

    here.await_condition("Ready", "True", "Serving")
    here.kubectl("wait", "agentdeployment/hello", "--for=condition=Ready", "--timeout=30s")
    status = here.get("agentdeployment")["status"]
    assert {name: status[name] for name in ("replicas", "readyReplicas", "url", "model", "image")} == {
        "replicas": 1,
        "readyReplicas": 1,
        "url": f"http://hello.{here.name}.svc",
        "model": "echo",
        "image": images.reference("service"),
    }
    assert here.condition("Progressing")["status"] == "False"
    assert here.condition("Degraded")["status"] == "False"


def test_an_agent_is_not_ready_until_the_new_revision_serves(here: Namespace) -> None:
    here.apply(agent())
    _serve(here)
    here.await_condition("Ready", "True", "Serving")

    here.apply(agent(agent={"provider": "echo", "systemPrompt": "Be kind."}))

    here.await_condition("Ready", "False", "RollingOut")
    here.await_condition("Progressing", "True", "RollingOut")
    _serve(here)
    here.await_condition("Ready", "True", "Serving")


def test_a_transition_time_changes_only_with_the_status(here: Namespace) -> None:
    here.apply(agent())
    _serve(here)
    before = here.await_condition("Ready", "True", "Serving")

    here.apply(agent(service={"port": 8080}))

    after = here.await_condition("Ready", "True", "Serving")
    assert after["observedGeneration"] > before["observedGeneration"]
    assert after["lastTransitionTime"] == before["lastTransitionTime"]


@pytest.mark.parametrize(
    ("container", "reason", "words"),
    [
        (
            {
                "waiting": {
                    "reason": "ImagePullBackOff",
                    "message": 'Back-off pulling image "x": ErrImagePull: not found',
                }
            },
            "ImagePullBackOff",
            "Cannot pull image",
        ),
        (
            {"terminated": {"exitCode": 2, "reason": "Error", "message": "DEFAULT_MODEL: no such model"}},
            "CrashLoopBackOff",
            "exit code 2 (Error): its settings are wrong",
        ),
        (
            {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
            "OOMKilled",
            "more memory than resources.limits.memory allows",
        ),
        (
            {"waiting": {"reason": "CreateContainerConfigError", "message": 'configmap "hello" not found'}},
            "CreateContainerConfigError",
            'configmap "hello" not found',
        ),
    ],
)
def test_a_failing_pod_is_reported_in_a_message_and_as_an_event(
    here: Namespace, container: dict[str, Any], reason: str, words: str
) -> None:
    here.apply(agent())
    (pod,) = eventually(lambda: here.list("pods"), "there is a pod")

    state = {"name": "agent", "image": "x", "imageID": "", "ready": False, "restartCount": 0, "state": container}
    here.set_pod_status(pod["metadata"]["name"], {"phase": "Pending", "containerStatuses": [state]})

    assert words in here.await_condition("Degraded", "True", reason)["message"]
    here.await_condition("Ready", "False", reason)
    event = eventually(lambda: _events(here, reason), "there is an Event")[0]
    assert (event["type"], event["involvedObject"]["kind"]) == ("Warning", "AgentDeployment")
    assert words in event["message"]


def test_a_pod_that_fits_no_node_is_reported(here: Namespace) -> None:
    here.apply(agent())
    (pod,) = eventually(lambda: here.list("pods"), "there is a pod")

    unschedulable = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available: 3 Insufficient memory.",
        "lastTransitionTime": LAST_TRANSITION,
    }
    here.set_pod_status(pod["metadata"]["name"], {"conditions": [unschedulable]})

    assert "Insufficient memory" in here.await_condition("Ready", "False", "Unschedulable")["message"]


def test_pods_that_exceed_a_quota_are_reported(here: Namespace) -> None:
    here.kubectl("create", "quota", "none", "--hard=pods=0")
    eventually(lambda: here.get("resourcequota", "none").get("status", {}).get("used"), "the quota is in force")

    here.apply(agent())

    assert "exceeded quota" in here.await_condition("Degraded", "True", "QuotaExceeded")["message"]
    here.await_condition("Ready", "False", "QuotaExceeded")


def test_an_object_that_the_api_server_rejects_is_reported(here: Namespace) -> None:
    here.apply(agent(resources={"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}))

    message = here.await_condition("Degraded", "True", "ApplyRefused")["message"]
    assert "Deployment hello was refused" in message
    assert "must be less than or equal to memory limit" in message


def test_the_last_output_of_a_container_is_not_published(here: Namespace, running: OperatorProcess) -> None:
    here.apply(agent())
    (pod,) = eventually(lambda: here.list("pods"), "there is a pod")

    ended = {"terminated": {"exitCode": 1, "reason": "Error", "message": "refused: sk-very-secret"}}
    state = {"name": "agent", "image": "x", "imageID": "", "ready": False, "restartCount": 0, "state": ended}
    here.set_pod_status(pod["metadata"]["name"], {"containerStatuses": [state]})

    here.await_condition("Degraded", "True", "CrashLoopBackOff")
    assert "sk-very-secret" not in json.dumps([here.get("agentdeployment")["status"], here.list("events")])
    assert "sk-very-secret" not in running.log


def test_an_inline_key_is_warned_about_and_appears_nowhere(here: Namespace, running: OperatorProcess) -> None:
    here.apply(agent(agent={"provider": "anthropic"}, apiKey={"value": "sk-very-secret"}))
    here.await_condition("Ready", "False", "RollingOut")

    assert "move it to a Secret" in here.condition("Ready")["message"]
    assert "sk-very-secret" not in json.dumps(here.get("agentdeployment")["status"])
    assert "sk-very-secret" not in json.dumps(here.list("events,deployments,configmaps,services"))
    assert "sk-very-secret" not in running.log


def test_an_object_of_another_schema_is_reported_and_affects_no_other(here: Namespace) -> None:
    with older_definition(here.cluster):
        here.apply(agent("odd", agent={"provider": "echo", "maxTokens": "many"}))

    message = here.await_condition("Degraded", "True", "InvalidSpec", "odd")["message"]

    assert "spec.agent.maxTokens: input should be a valid integer" in message
    here.apply(agent(replicas=0))
    here.await_condition("Ready", "True", "ScaledToZero")


def test_an_agent_scaled_to_zero_is_ready(here: Namespace) -> None:
    here.apply(agent(replicas=0))

    here.await_condition("Ready", "True", "ScaledToZero")


def test_kubectl_scale_works_on_the_agent(here: Namespace) -> None:
    here.apply(agent())
    here.get("deployment")

    here.kubectl("scale", "agentdeployment", "hello", "--replicas=3")

    eventually(
        lambda: here.get("agentdeployment").get("status", {}).get("replicas") == 3, "the status counts three pods"
    )
    scale = json.loads(here.kubectl("get", "agentdeployment", "hello", "--subresource=scale", "-ojson"))
    assert scale["status"]["replicas"] == 3
    pods = here.kubectl("get", "pods", f"--selector={scale['status']['selector']}", "-oname")
    assert len(pods.split()) == 3


def test_the_columns_are_correct(here: Namespace) -> None:
    here.apply(agent())
    _serve(here)
    here.await_condition("Ready", "True", "Serving")

    header, row = here.kubectl("get", "agd", "-owide").splitlines()

    usual = ["NAME", "READY", "REPLICAS", "MODEL", "URL", "AGE"]
    assert header.split() == [*usual, "IMAGE", "REASON", "DEPENDENCIES", "WORKERS", "BUDGET", "CLASS"]
    values = row.split()
    assert values[:5] == ["hello", "True", "1/1", "echo", f"http://hello.{here.name}.svc"]
    assert values[6:] == [images.reference("service"), "Serving"]


def test_the_operator_is_healthy_and_counts_agents_by_condition(here: Namespace, running: OperatorProcess) -> None:
    here.apply(agent(replicas=0))
    here.await_condition("Ready", "True", "ScaledToZero")

    base = f"http://127.0.0.1:{running.health_port}"

    assert httpx.get(f"{base}/healthz").status_code == 200
    eventually(lambda: _metric(base, 'agent_operator_agents{condition="Ready"}') >= 1, "the agent is counted")
    assert _metric(base, 'agent_operator_applies_total{kind="Deployment",operation="create"}') >= 1


def test_an_autoscaler_without_its_metric_is_reported_until_autoscaling_is_off(here: Namespace) -> None:
    here.apply(agent(autoscaling={"enabled": True, "targetInFlightRequests": 5}))
    _serve(here)

    reported = here.await_condition("ScalingActive", "False", "FailedGetPodsMetric")

    assert "custom.metrics.k8s.io" in reported["message"]
    assert here.await_condition("Ready", "True", "Serving"), "the pods that there are serve"
    assert here.condition("Degraded")["status"] == "False"
    here.apply(agent())
    eventually(lambda: "ScalingActive" not in _types(here), "the condition is removed with its subject")


def test_the_autoscaler_that_keda_creates_is_checked_too(here: Namespace) -> None:
    spec = {"enabled": True, "engine": "keda", "targetCPUUtilizationPercentage": 50}
    here.apply(agent(autoscaling={"enabled": True}))
    here.get("horizontalpodautoscaler")

    here.apply(agent(autoscaling=spec))
    scaled = here.get("scaledobject")
    eventually(lambda: not here.find("horizontalpodautoscaler"), "the autoscaler of our own is gone")
    here.await_condition("ScalingActive", "Unknown", "AwaitingAutoscaler")
    # As KEDA's operator does when it cannot create an autoscaler.
    refused = {"type": "Ready", "status": "False", "reason": "ScaledObjectCheckFailed", "message": "no such trigger"}
    status = json.dumps({"status": {"conditions": [refused]}})
    here.kubectl("patch", "scaledobject", "hello", "--subresource=status", "--type=merge", "-p", status)
    reported = here.await_condition("ScalingActive", "False", "ScaledObjectNotReady")
    assert reported["message"].endswith("no such trigger")
    here.apply(_made_by_keda(scaled))
    reported = here.await_condition("ScalingActive", "False", "FailedGetResourceMetric")
    assert "metrics-server" in reported["message"]

    here.kubectl("delete", "scaledobject", "hello")
    eventually(lambda: here.find("scaledobject"), "the deleted ScaledObject is back")
    here.apply(agent())
    eventually(lambda: not here.find("scaledobject"), "it is deleted when the spec no longer enables it")
    eventually(lambda: "ScalingActive" not in _types(here), "and so does the condition")


def _made_by_keda(scaled: dict[str, Any]) -> dict[str, Any]:
    """Return the autoscaler that KEDA creates for a ScaledObject (its controllers/keda/hpa.go), with its labels."""
    metadata = scaled["metadata"]
    owner = {"apiVersion": scaled["apiVersion"], "kind": scaled["kind"], "controller": True}
    target = {"type": "Utilization", "averageUtilization": 50}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {
            "name": f"keda-hpa-{metadata['name']}",
            "labels": metadata["labels"],
            "ownerReferences": [owner | {"name": metadata["name"], "uid": metadata["uid"]}],
        },
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": metadata["name"]},
            "maxReplicas": 10,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        },
    }


def test_workers_without_their_metric_are_reported(here: Namespace) -> None:
    scaled = {"enabled": True, "autoscaling": {"enabled": True}}
    here.apply(agent(redis={"url": "redis://state:6379/0"}, worker=scaled))
    _serve_all(here)

    reported = here.await_condition("ScalingActive", "False", "FailedGetObjectMetric")

    assert reported["message"].startswith("The number of workers does not follow their load")


@contextmanager
def older_definition(cluster: Cluster) -> Iterator[None]:
    """Replace the definition for a while by one that accepts any spec."""
    definition = crd()
    properties = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    properties["spec"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(definition))
    eventually(lambda: "maxTokens" not in cluster.kubectl("explain", "agd.spec"), "the older definition is in force")
    try:
        yield
    finally:
        install_definition(cluster)


def _serve(here: Namespace) -> None:
    """Act as the kubelet until the Deployment's rollout is complete."""

    def look() -> bool:
        here.serve()
        deployment = here.get("deployment")
        status: dict[str, Any] = deployment.get("status", {})
        return bool(
            status.get("observedGeneration") == deployment["metadata"]["generation"]
            and status.get("replicas") == status.get("updatedReplicas") == status.get("availableReplicas") == 1
        )

    generation = here.get("agentdeployment")["metadata"]["generation"]
    eventually(
        lambda: here.get("agentdeployment").get("status", {}).get("observedGeneration") == generation,
        "the operator has seen the spec",
    )
    eventually(look, "one pod of the newest revision is available")


def _serve_all(here: Namespace) -> None:
    """Act as the kubelet until the agent is Ready."""

    def look() -> bool:
        here.serve()
        return here.condition("Ready").get("status") == "True"

    eventually(lambda: here.list("hpa"), "there is an autoscaler")
    eventually(look, "all pods are available")


def _types(here: Namespace) -> set[str]:
    return {each["type"] for each in here.get("agentdeployment")["status"]["conditions"]}


def _events(here: Namespace, reason: str) -> list[dict[str, Any]]:
    return [event for event in here.list("events") if event["reason"] == reason]


def _metric(base: str, name: str) -> float:
    lines = httpx.get(f"{base}/metrics").text.splitlines()
    return next((float(line.removeprefix(name)) for line in lines if line.startswith(name)), 0.0)
