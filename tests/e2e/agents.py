"""Helpers of the e2e tests: the agent that they apply, and how they wait for it and connect to it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from support.eventually import eventually
from testbed.cluster import Cluster
from testbed.errors import TestbedError
from testbed.portforward import forwarded

AGENT = "my-agent"
READY_SECONDS = 240
POLL_SECONDS = 0.1
ANSWER_SECONDS = 30


def agent_spec(model_api: str, **changes: Any) -> dict[str, Any]:
    """Return a spec that creates all five objects: autoscaled, an inline key, the stand-in as its model API."""
    return {
        "agent": {"baseUrl": model_api, "systemPrompt": "Answer as a ship's pilot.", "environment": "testing"},
        "apiKey": {"value": "key-of-the-tests"},
        "autoscaling": {"enabled": True, "minReplicas": 1, "maxReplicas": 2},
    } | changes


def secret_spec(model_api: str, **changes: Any) -> dict[str, Any]:
    """Return a spec of one pod whose key is in the Secret `anthropic` (see `put_secret`), without a rate limit."""
    plain = {"autoscaling": {"enabled": False}, "rateLimit": {"requestsPerMinute": 0}}
    return agent_spec(model_api, apiKey={"secretName": "anthropic"}) | plain | changes


def agent_object(spec: dict[str, Any]) -> dict[str, Any]:
    """Return an AgentDeployment with this spec."""
    return {
        "apiVersion": "portside.dev/v1alpha1",
        "kind": "AgentDeployment",
        "metadata": {"name": AGENT},
        "spec": spec,
    }


def put_secret(cluster: Cluster, namespace: str, key: str, name: str = "ANTHROPIC_API_KEY") -> None:
    """Create or change the Secret `anthropic`, which then holds `key` under `name` and nothing else."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "anthropic"}, "stringData": {name: key}}
    if cluster.kubectl("get", "secret", "anthropic", "-n", namespace, "-oname", "--ignore-not-found"):
        # An apply would leave the keys that an earlier stringData wrote into data.
        cluster.kubectl("replace", "-n", namespace, "-f-", stdin=json.dumps(secret))
    else:
        cluster.kubectl("create", "-n", namespace, "-f-", stdin=json.dumps(secret))


def apply_spec(cluster: Cluster, namespace: str, spec: dict[str, Any]) -> None:
    """Apply the AgentDeployment without waiting."""
    cluster.kubectl("apply", "-n", namespace, "-f-", stdin=json.dumps(agent_object(spec)))


def apply_agent(cluster: Cluster, namespace: str, spec: dict[str, Any]) -> None:
    """Apply the AgentDeployment and wait until its status reports Ready at this generation."""
    apply_spec(cluster, namespace, spec)
    eventually(lambda: is_ready(cluster, namespace), "the agent is Ready", READY_SECONDS)


def conditions(cluster: Cluster, namespace: str) -> list[dict[str, Any]]:
    """Return the agent's conditions; empty before the operator has reconciled it."""
    return _conditions(cluster.get("agentdeployment", AGENT, "-n", namespace))


def _conditions(agent: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = agent.get("status", {}).get("conditions", [])
    return found


def messages(cluster: Cluster, namespace: str) -> str:
    """Return the messages of the agent's conditions."""
    return "\n".join(condition.get("message", "") for condition in conditions(cluster, namespace))


def condition(cluster: Cluster, namespace: str, name: str) -> dict[str, Any]:
    """Return the agent's condition of this type; empty before the operator has reconciled the agent."""
    return next((each for each in conditions(cluster, namespace) if each["type"] == name), {})


def wait_for_reason(cluster: Cluster, namespace: str, reason: str, seconds: float) -> str:
    """Wait until Degraded is true for this reason, and return its message."""
    wanted = ("True", reason)
    try:
        eventually(
            lambda: _judged(condition(cluster, namespace, "Degraded")) == wanted, f"Degraded for {reason}", seconds
        )
    except TestbedError as error:
        raise TestbedError(f"{error}; but {conditions(cluster, namespace)}") from None
    return str(condition(cluster, namespace, "Degraded")["message"])


def _judged(condition: dict[str, Any]) -> tuple[Any, Any]:
    return condition.get("status"), condition.get("reason")


def is_ready(cluster: Cluster, namespace: str) -> bool:
    """Return whether the agent's Ready condition is true for its current spec."""
    agent = cluster.get("agentdeployment", AGENT, "-n", namespace)
    now = ("Ready", "True", agent["metadata"]["generation"])
    judged = ((each["type"], each["status"], each.get("observedGeneration")) for each in _conditions(agent))
    return now in judged


@contextmanager
def client(cluster: Cluster, namespace: str, target: str = f"svc/{AGENT}", port: int = 80) -> Iterator[httpx.Client]:
    """Yield an HTTP client of `target`, through `kubectl port-forward`."""
    with (
        forwarded(cluster, namespace, target, port) as url,
        httpx.Client(base_url=url, timeout=ANSWER_SECONDS) as http,
    ):
        yield http


def notice_kinds(cluster: Cluster) -> None:
    """Make the operator discover kinds that the cluster has gained, as it does with its next full list within five
    minutes."""
    cluster.kubectl("rollout", "restart", "-n", "portside-system", "deployment/agent-operator")
    cluster.kubectl("rollout", "status", "-n", "portside-system", "deployment/agent-operator", "--timeout=2m")


def events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a server-sent event stream, each as it arrives; comment lines are skipped."""
    for line in lines:
        if line.startswith("data:"):
            yield json.loads(line.removeprefix("data:"))


def pods(cluster: Cluster, namespace: str) -> list[str]:
    """Return the names of the agent's pods that are not terminating."""
    found = cluster.get("pods", "-n", namespace, "-l", f"app.kubernetes.io/instance={AGENT}")["items"]
    return sorted(pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"])


def lives(cluster: Cluster, namespace: str) -> dict[str, int]:
    """Return the uids of the agent's pods that are not terminating, with the number of restarts of their containers."""
    found = cluster.get("pods", "-n", namespace, "-l", f"app.kubernetes.io/instance={AGENT}")["items"]
    return {
        # A runtime is an init container.
        pod["metadata"]["uid"]: sum(
            each["restartCount"]
            for kind in ("initContainerStatuses", "containerStatuses")
            for each in pod["status"].get(kind, [])
        )
        for pod in found
        if "deletionTimestamp" not in pod["metadata"]
    }


def leftovers(cluster: Cluster, namespace: str) -> list[str]:
    """Return everything in the namespace except what Kubernetes itself creates in each."""
    kinds = "deployments,replicasets,pods,services,hpa,secrets,configmaps"
    if cluster.kubectl("api-resources", "--api-group=portside.dev", "-oname"):
        kinds = f"agentdeployments,{kinds}"
    names = cluster.kubectl("get", kinds, "-n", namespace, "-oname", "--ignore-not-found").split()
    return [name for name in names if name != "configmap/kube-root-ca.crt"]
