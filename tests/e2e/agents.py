"""What the e2e tests say to a cluster: the agent that they apply, and how they wait and talk."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from testbed.cluster import Cluster
from testbed.errors import TestbedError
from testbed.portforward import forwarded

AGENT = "my-agent"
READY_SECONDS = 120
POLL_SECONDS = 0.3
ANSWER_SECONDS = 30


def agent_spec(model_api: str, **changes: Any) -> dict[str, Any]:
    """A spec that has all five objects made: autoscaled, its key inline, the stand-in as its model API."""
    return {
        "agent": {"baseUrl": model_api, "systemPrompt": "Answer as a ship's pilot.", "environment": "testing"},
        "apiKey": {"value": "key-of-the-tests"},
        "autoscaling": {"enabled": True, "minReplicas": 1, "maxReplicas": 2},
    } | changes


def agent_object(spec: dict[str, Any]) -> dict[str, Any]:
    """The AgentDeployment with this spec."""
    return {
        "apiVersion": "portside.dev/v1alpha1",
        "kind": "AgentDeployment",
        "metadata": {"name": AGENT},
        "spec": spec,
    }


def apply_agent(cluster: Cluster, namespace: str, spec: dict[str, Any]) -> None:
    """Apply the AgentDeployment and wait until it says that it is Ready at this generation."""
    cluster.kubectl("apply", "-n", namespace, "-f-", stdin=json.dumps(agent_object(spec)))
    wait_until(lambda: is_ready(cluster, namespace), "the agent is Ready", READY_SECONDS)


def conditions(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    """The agent's conditions, none before the operator has seen it."""
    return _conditions(cluster.get("agentdeployment", AGENT, "-n", namespace))


def _conditions(agent: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = agent.get("status", {}).get("conditions", [])
    return found


def messages(cluster: Cluster, namespace: str) -> str:
    """What the agent's conditions say."""
    return "\n".join(condition.get("message", "") for condition in conditions(cluster, namespace))


def is_ready(cluster: Cluster, namespace: str) -> bool:
    """Whether the agent's Ready condition is true for the spec as it is now."""
    agent = cluster.get("agentdeployment", AGENT, "-n", namespace)
    now = ("Ready", "True", agent["metadata"]["generation"])
    judged = ((each["type"], each["status"], each.get("observedGeneration")) for each in _conditions(agent))
    return now in judged


def wait_until(true: Callable[[], bool], what: str, seconds: float) -> None:
    """Poll until `true()`; fail with `what` when it does not come within `seconds`."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TestbedError(f"not within {seconds:.0f} s: {what}")
        time.sleep(POLL_SECONDS)


@contextmanager
def client(cluster: Cluster, namespace: str, target: str = f"svc/{AGENT}", port: int = 80) -> Iterator[httpx.Client]:
    """An HTTP client of `target`, through `kubectl port-forward`."""
    with (
        forwarded(cluster, namespace, target, port) as url,
        httpx.Client(base_url=url, timeout=ANSWER_SECONDS) as http,
    ):
        yield http


def events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The JSON objects of a server-sent event stream, each as it arrives; comment lines are passed over."""
    for line in lines:
        if line.startswith("data:"):
            yield json.loads(line.removeprefix("data:"))


def pods(cluster: Cluster, namespace: str) -> list[str]:
    """The names of the agent's pods that are not on their way out."""
    found = cluster.get("pods", "-n", namespace, "-l", f"app.kubernetes.io/instance={AGENT}")["items"]
    return sorted(pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"])


def leftovers(cluster: Cluster, namespace: str) -> list[str]:
    """Everything in the namespace but what Kubernetes itself puts into each."""
    kinds = "agentdeployments,deployments,replicasets,pods,services,hpa,secrets,configmaps"
    names = cluster.kubectl("get", kinds, "-n", namespace, "-oname", "--ignore-not-found").split()
    return [name for name in names if name != "configmap/kube-root-ca.crt"]
