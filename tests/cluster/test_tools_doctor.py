"""`agent-operator doctor` against a real API server: the first cause in plain text. The tests act as the kubelet."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.tools_bed import cause, report, tool
from support.eventually import eventually
from support.operator import COMMAND, Namespace, OperatorProcess, agent, install_definition, operator, service_account
from testbed import binaries
from testbed import cluster as clusters
from testbed.cluster import Cluster

READ = {"apiGroups": ["*"], "verbs": ["get", "list"]}


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
    """The operator, on all namespaces."""
    install_definition(control_plane)
    with operator(control_plane.kubeconfig) as process:
        yield process


@pytest.fixture
def here(control_plane: Cluster, namespace: str, running: OperatorProcess) -> Namespace:
    """A fresh namespace, watched by the operator."""
    return Namespace(control_plane, namespace)


def test_an_agent_that_serves_is_ready(here: Namespace) -> None:
    here.apply(agent())
    serve(here)

    done = tool(here, "doctor", "hello")

    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith(f"Agent hello in namespace {here.name} is ready.\n")
    fared = {each["name"]: each["state"] for each in report(here)["steps"]}
    assert {name for name, state in fared.items() if state == "ok"} >= {
        "definition",
        "spec",
        "objects",
        "pods",
        "scaling",
        "tools",
    }
    # Pods have no address here, so the Service has no endpoints.
    assert "NoEndpoints: Service hello has no ready endpoints" in done.stdout


@pytest.mark.parametrize(
    ("state", "reason", "words"),
    [
        (
            {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}},
            "ImagePullBackOff",
            "Cannot pull image x",
        ),
        (
            {
                "terminated": {
                    "exitCode": 2,
                    "reason": "Error",
                    "message": "a\nDEFAULT_MODEL: unknown, key sk-secret-1\n",
                }
            },
            "CrashLoopBackOff",
            'exit code 2 (Error): its settings are wrong. Its last line: "DEFAULT_MODEL: unknown, key ***"',
        ),
        ({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, "OOMKilled", "(512Mi)"),
        (
            {"waiting": {"reason": "CreateContainerConfigError", "message": 'configmap "x" not found'}},
            "CreateContainerConfigError",
            'configmap "x" not found',
        ),
    ],
)
def test_a_failing_container_is_the_cause(here: Namespace, state: dict[str, Any], reason: str, words: str) -> None:
    here.apply(agent())
    pod = its_pod(here)

    container = {"name": "agent", "image": "x", "imageID": "", "ready": False, "restartCount": 0, "state": state}
    here.set_pod_status(pod, {"phase": "Pending", "containerStatuses": [container]})

    done = tool(here, "doctor", "hello")
    assert done.returncode == 1
    assert f"Cause ({reason}): " in done.stdout
    assert words in done.stdout
    assert "What to do: " in done.stdout
    assert "sk-secret-1" not in done.stdout


def test_a_pod_that_fits_no_node_is_the_cause(here: Namespace) -> None:
    here.apply(agent())
    unschedulable = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available: 3 Insufficient memory.",
    }
    here.set_pod_status(its_pod(here), {"conditions": [unschedulable]})

    assert cause(here)["reason"] == "Unschedulable"
    assert "3 Insufficient memory" in cause(here)["message"]


def test_a_missing_secret_is_named_and_an_existing_one_is_not_read(here: Namespace) -> None:
    here.apply(agent(agent={"provider": "anthropic"}, apiKey={"secretName": "anthropic", "secretKey": "KEY"}))
    its_pod(here)

    found = cause(here)
    assert found["reason"] == "SecretMissing"
    assert "Secret anthropic does not exist" in found["message"]
    assert f"kubectl create secret generic anthropic -n {here.name} --from-literal=KEY=…" in found["remedy"]

    here.kubectl("create", "secret", "generic", "anthropic", "--from-literal=KEY=sk-very-secret")
    done = tool(here, "doctor", "hello", "-o", "json")
    assert "SecretMissing" not in done.stdout
    assert "sk-very-secret" not in done.stdout


def test_a_user_who_may_not_read_secrets_still_learns_which_one_is_missing(here: Namespace) -> None:
    here.apply(agent(agent={"provider": "anthropic"}, apiKey={"secretName": "anthropic"}))
    pod = its_pod(here)
    here.set_pod_status(pod, {"phase": "Pending", "containerStatuses": [creating()]})
    post_event(here, pod, "FailedMount", 'MountVolume.SetUp failed for volume "secrets" : secret "anthropic" not found')

    rules = [
        {**READ, "resources": ["agentdeployments", "deployments", "replicasets", "pods", "events", "services"]},
    ]
    with service_account(here.cluster, here.name, cluster_wide=False, rules=rules) as kubeconfig:
        done = tool(here, "doctor", "hello", kubeconfig=kubeconfig)

    assert done.returncode == 1
    assert "Cause (SecretMissing): Secret anthropic does not exist" in done.stdout
    assert "Could not be read, so there may be other problems:" in done.stdout
    assert "  secrets: " in done.stdout
    assert "Traceback" not in done.stderr


def test_pods_that_exceed_a_quota_are_the_cause(here: Namespace) -> None:
    here.kubectl("create", "quota", "none", "--hard=pods=0")
    eventually(lambda: here.get("resourcequota", "none").get("status", {}).get("used"), "the quota is in force")
    here.apply(agent())

    found = eventually(
        lambda: cause(here) if cause(here)["reason"] == "QuotaExceeded" else None, "the quota is reported"
    )
    assert "exceeded quota" in found["message"]


def test_a_name_conflict_is_the_cause(here: Namespace) -> None:
    here.kubectl("create", "configmap", "hello")
    here.apply(agent())
    here.await_condition("Ready", "False", "NameConflict")

    assert cause(here)["reason"] == "NameConflict"
    assert "ConfigMap hello exists and is not managed by this AgentDeployment" in cause(here)["message"]


def test_an_object_that_the_api_server_rejects_is_the_cause(here: Namespace) -> None:
    here.apply(agent(resources={"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}))
    here.await_condition("Ready", "False", "ApplyRefused")

    assert cause(here)["reason"] == "ApplyRefused"
    assert "must be less than or equal to memory limit" in cause(here)["message"]


def test_a_failing_probe_is_the_cause(here: Namespace) -> None:
    here.apply(agent())
    pod = its_pod(here)
    runs = {**creating(), "state": {"running": {}}}
    here.set_pod_status(pod, {"phase": "Running", "containerStatuses": [runs]})
    post_event(here, pod, "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")

    assert cause(here)["reason"] == "ReadinessFails"
    assert "statuscode: 503" in cause(here)["message"]


def test_an_agent_scaled_to_zero_is_ready(here: Namespace) -> None:
    here.apply(agent(replicas=0))
    here.await_condition("Ready", "True", "ScaledToZero")

    done = tool(here, "doctor", "hello")

    assert done.returncode == 0, done.stdout
    assert "0 replicas are desired" in done.stdout


def test_a_paused_rollout_is_reported(here: Namespace) -> None:
    here.apply(agent())
    serve(here)
    here.kubectl("rollout", "pause", "deployment/hello")
    here.apply(agent(agent={"provider": "echo", "systemPrompt": "Be kind."}))
    here.await_condition("Ready", "False", "RollingOut")

    assert cause(here)["reason"] == "DeploymentPaused"
    assert cause(here)["remedy"] == "kubectl rollout resume deployment/hello"


def test_an_autoscaler_without_metrics_is_reported_as_a_note(here: Namespace) -> None:
    here.apply(agent(autoscaling={"enabled": True}, redis={"url": "redis://state"}))
    serve(here)

    def look() -> dict[str, Any] | None:
        notes = [each for each in report(here)["findings"] if each["reason"] == "NoMetrics"]
        return notes[0] if notes else None

    note = eventually(look, "the autoscaler reports that it lacks metrics", 60)
    assert note["note"] is True
    assert "metrics-server" in note["remedy"]
    assert report(here)["ready"] is True


def test_all_agents_are_checked(here: Namespace) -> None:
    here.apply(agent("one", replicas=0))
    here.apply(agent("two"))
    here.await_condition("Ready", "True", "ScaledToZero", "one")

    done = tool(here, "doctor")

    assert done.returncode == 1
    assert f"Agent one in namespace {here.name} is ready.\n" in done.stdout
    assert f"Agent two in namespace {here.name} is not ready.\n" in done.stdout


def test_a_missing_agent_is_an_error(here: Namespace) -> None:
    here.apply(agent("other", replicas=0))

    done = tool(here, "doctor", "hello")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"Error: AgentDeployment hello not found in namespace {here.name}: it has other.\n"


def test_kubectl_finds_the_plugin(here: Namespace) -> None:
    here.apply(agent(replicas=0))
    here.await_condition("Ready", "True", "ScaledToZero")
    kubectl = binaries.provide("kubectl")["kubectl"]
    environment = os.environ | {
        "PATH": f"{COMMAND.parent}:{os.environ['PATH']}",
        "KUBECONFIG": str(here.cluster.kubeconfig),
    }

    def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [kubectl, "agent", *arguments], env=environment, input=stdin, capture_output=True, text=True, check=False
        )

    assert "ready" in run("doctor", "hello", "-n", here.name).stdout
    assert run("diff", "hello", "-n", here.name).returncode == 0
    assert run("validate", "-f", "-", stdin=json.dumps(agent())).stdout == "1 valid\n"
    assert "kind: Deployment" in run("render", "-f", "-", stdin=json.dumps(agent())).stdout
    assert "kind: CustomResourceDefinition" in run("crd").stdout
    assert run("--help").stdout.startswith("Usage: kubectl agent ")
    assert run("run").returncode == 2
    completed = subprocess.run(
        [kubectl, "__complete", "agent", "do"], env=environment, capture_output=True, text=True, check=True
    )
    assert completed.stdout.startswith("doctor")


def its_pod(here: Namespace) -> str:
    """Return the name of the agent's pod, once the operator has observed it."""
    (pod,) = eventually(lambda: here.list("pods"), "there is a pod")
    here.await_condition("Progressing", "True", "RollingOut")
    name: str = pod["metadata"]["name"]
    return name


def creating() -> dict[str, Any]:
    waiting = {"waiting": {"reason": "ContainerCreating"}}
    return {"name": "agent", "image": "x", "imageID": "", "ready": False, "restartCount": 0, "state": waiting}


def post_event(here: Namespace, pod: str, reason: str, message: str) -> None:
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{pod}.{reason.lower()}"},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "name": pod, "namespace": here.name},
        "type": "Warning",
        "reason": reason,
        "message": message,
        "lastTimestamp": "2026-01-01T00:00:00Z",
    }
    here.kubectl("create", "-f", "-", stdin=json.dumps(event))


def serve(here: Namespace) -> None:
    """Act as the kubelet until the agent is ready."""

    def look() -> bool:
        here.serve()
        return here.condition("Ready").get("status") == "True"

    here.get("deployment")
    eventually(look, "the agent is ready")
