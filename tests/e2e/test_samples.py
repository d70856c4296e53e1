"""The samples on a real node: workers with their Redis, and the agent of the production sample."""

from typing import Any

import httpx
import pytest
import yaml

from e2e.agents import READY_SECONDS, client, put_secret
from support.eventually import eventually
from support.manifests import documents
from testbed import images, paths
from testbed.cluster import Cluster

pytestmark = pytest.mark.usefixtures("operator")
SAMPLES = paths.REPOSITORY / "manifests" / "samples"
CLIENT_KEY = "a-client-key-of-the-tests"
# The Valkey in the service's image replaces the Redis image, which no registry serves here; it is started with the
# sample's own arguments.
REDIS = """
import os, sys
from agent_service.state.valkey.process import find_program
os.chdir("/data")
program = find_program()
os.execv(program, [program, "--bind", "0.0.0.0", "--protected-mode", "no", *sys.argv[2:]])
"""


def test_the_workers_of_the_sample_do_tasks_over_its_redis(real_cluster: Cluster, namespace: str) -> None:
    _apply(real_cluster, namespace, _with_redis("worker-with-redis"))
    rollout = ["rollout", "status", "deployment/clerk-redis", f"--timeout={READY_SECONDS}s"]
    real_cluster.kubectl(*rollout, "-n", namespace)
    _await_ready(real_cluster, namespace, "clerk")
    workers = real_cluster.get("deployment", "clerk-worker", "-n", namespace)
    assert workers["status"]["readyReplicas"] == 2
    with client(real_cluster, namespace, "svc/clerk") as http:
        eventually(lambda: http.get("/health").status_code == 200, "Redis is reached", READY_SECONDS)
        place = http.post("/tasks", json={"message": "Sum up the week."}).raise_for_status().json()["status_url"]
        task = eventually(lambda: _completed(http, place), "the task is done", READY_SECONDS)
        assert "Sum up the week." in task["result"]["response"]


def test_the_production_sample_runs_with_everything_that_it_configures(
    real_cluster: Cluster, namespace: str, model_api: str
) -> None:
    documents = [each for each in _with_redis("worker-with-redis") if each["metadata"]["name"] == "clerk-redis"]
    documents += _sample("production-agent")
    [agent] = [each for each in documents if each["kind"] == "AgentDeployment"]
    # The only differences from the sample: its model API, and that the node need not have room for three.
    agent["spec"]["agent"]["baseUrl"] = model_api
    agent["spec"]["autoscaling"]["minReplicas"] = 2
    put_secret(real_cluster, namespace, "key-of-the-tests")
    for name, pair in (("redis", "REDIS_URL=redis://clerk-redis:6379/0"), ("agent-clients", f"API_KEYS={CLIENT_KEY}")):
        real_cluster.kubectl("create", "secret", "generic", name, "-n", namespace, f"--from-literal={pair}")
    try:
        _apply(real_cluster, namespace, [each for each in documents if each["kind"] != "NetworkPolicy"])
        _await_ready(real_cluster, namespace, "front-desk")
        _await_budget(real_cluster, namespace)
        pods = real_cluster.get("pods", "-n", namespace, "-l", "app.kubernetes.io/instance=front-desk")["items"]
        assert {pod["spec"]["priorityClassName"] for pod in pods} == {"agents"}
        with client(real_cluster, namespace, "svc/front-desk") as http:
            message = {"message": "Where do we dock?"}
            assert http.post("/chat", json=message).status_code == 401
            answer = http.post("/chat", json=message, headers={"Authorization": f"Bearer {CLIENT_KEY}"})
            assert "Where do we dock?" in answer.raise_for_status().json()["response"]
    finally:
        real_cluster.kubectl("delete", "priorityclass", "agents", "--ignore-not-found")


def _completed(http: httpx.Client, place: str) -> dict[str, Any] | None:
    """Return the task once it is done; None also if the sample's limit of requests refuses the question."""
    task: dict[str, Any] = http.get(place).json()
    return task if task.get("status") == "completed" else None


def _sample(name: str) -> list[dict[str, Any]]:
    return documents((SAMPLES / f"{name}.yaml").read_text())


def _with_redis(name: str) -> list[dict[str, Any]]:
    """Return the sample with an available image for its Redis."""
    documents = _sample(name)
    [redis] = [each for each in documents if each["kind"] == "Deployment"]
    [container] = redis["spec"]["template"]["spec"]["containers"]
    container |= {"image": images.reference("service"), "command": ["python", "-c", REDIS]}
    # That image has no redis-cli.
    container["readinessProbe"] = {"tcpSocket": {"port": "redis"}, "periodSeconds": 1}
    return documents


def _apply(cluster: Cluster, namespace: str, documents: list[dict[str, Any]]) -> None:
    cluster.kubectl("apply", "--server-side", "-n", namespace, "-f", "-", stdin=yaml.safe_dump_all(documents))


def _await_ready(cluster: Cluster, namespace: str, agent: str) -> None:
    ready = ["--for=condition=Ready", f"agentdeployment/{agent}", f"--timeout={READY_SECONDS}s"]
    cluster.kubectl("wait", "-n", namespace, *ready)


def _await_budget(cluster: Cluster, namespace: str) -> None:
    """Wait until the autoscaler has added the second pod, so that one of them may be evicted."""
    look = ["pdb", "front-desk", "-n", namespace]
    eventually(
        lambda: cluster.get(*look)["status"].get("disruptionsAllowed") == 1, "one pod may be away", READY_SECONDS
    )
