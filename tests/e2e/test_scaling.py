"""Load comes and pods come, load goes and they go, with no stream cut: by the cluster's own autoscalers."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.agents import (
    AGENT,
    READY_SECONDS,
    apply_agent,
    apply_spec,
    client,
    condition,
    put_secret,
    secret_spec,
    wait_until,
)
from e2e.measuring import measuring
from e2e.prometheus import Prometheus
from e2e.streams import open_streams
from e2e.test_worker import REDIS, redis
from testbed.cluster import Cluster

pytestmark = pytest.mark.usefixtures("operator")

# The controller looks every 15 s, and what it goes by is up to 15 s old.
UP_SECONDS = 120
DOWN_SECONDS = 180
# Four looks of the controller.
HELD_SECONDS = 60
# Or it would wait for five minutes before it takes pods away.
SOON = {"scaleDown": {"stabilizationWindowSeconds": 15}}
SLOW = "[[slow:0.5]] Tell me all."
WORKER = f"{AGENT}-worker"


@pytest.fixture(scope="module")
def measured(real_cluster: Cluster, operator: None) -> Iterator[Prometheus]:
    """metrics-server, Prometheus and prometheus-adapter."""
    with real_cluster.fresh_namespace() as place, measuring(real_cluster, place) as prometheus:
        yield prometheus


@pytest.fixture
def apply(real_cluster: Cluster, namespace: str, model_api: str, measured: Prometheus) -> Any:
    """Apply the agent with these changes, and wait until its autoscaler gets all its values."""

    def applied(**changes: Any) -> None:
        put_secret(real_cluster, namespace, "key-of-the-tests")
        apply_agent(real_cluster, namespace, secret_spec(model_api, **changes))
        await_scaling(real_cluster, namespace)

    return applied


@pytest.fixture
def apply_with_workers(real_cluster: Cluster, namespace: str, apply: Any) -> Any:
    """Apply the agent with a Redis and one worker that does one task at a time, and more of them for every 5 tasks."""

    def applied() -> None:
        real_cluster.kubectl("apply", "-n", namespace, "-f-", stdin=json.dumps(redis()))
        ready = ["rollout", "status", f"deployment/{REDIS}", f"--timeout={READY_SECONDS}s"]
        real_cluster.kubectl(*ready, "-n", namespace)
        worker = {"enabled": True, "concurrency": 1, "autoscaling": scaled(targetQueueDepth=5)}
        apply(redis={"url": f"redis://{REDIS}:6379/0"}, worker=worker)

    return applied


def scaled(**more: Any) -> dict[str, Any]:
    return {"enabled": True, "minReplicas": 1, "maxReplicas": 3, "behavior": SOON, **more}


def await_scaling(cluster: Cluster, namespace: str) -> None:
    """Wait until the agent says that its autoscaler gets all its values."""
    gets = lambda: condition(cluster, namespace, "ScalingActive").get("status") == "True"  # noqa: E731
    wait_until(gets, "the autoscaler gets its values", UP_SECONDS)


def await_replicas(cluster: Cluster, namespace: str, number: int, seconds: float, name: str = AGENT) -> float:
    """Wait for so many ready pods and no more; give the seconds that it took."""
    begun = time.monotonic()

    def there() -> bool:
        status = cluster.get("deployment", name, "-n", namespace).get("status", {})
        return int(status.get("readyReplicas", 0)) == int(status.get("replicas", 0)) == number

    wait_until(there, f"{number} pods of {name}", seconds)
    return time.monotonic() - begun


def most_replicas(cluster: Cluster, namespace: str, seconds: float, name: str = AGENT) -> int:
    """Look for so long; give the most pods that were wanted in that time."""
    end, most = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        most = max(most, int(cluster.get("deployment", name, "-n", namespace)["spec"]["replicas"]))
        time.sleep(1)
    return most


def submit(cluster: Cluster, namespace: str, tasks: int, message: str) -> None:
    with client(cluster, namespace) as http:
        for number in range(tasks):
            http.post("/tasks", json={"message": f"{message} {number}"}).raise_for_status()


def count(cluster: Cluster, namespace: str, status: str) -> int:
    """The number of tasks in this state."""
    with client(cluster, namespace) as http:
        return len(http.get(f"/tasks?status={status}&limit=100").raise_for_status().json()["tasks"])


def test_pods_follow_requests_in_flight_and_no_stream_is_cut(real_cluster: Cluster, namespace: str, apply: Any) -> None:
    apply(autoscaling=scaled(targetInFlightRequests=10))

    host = f"{AGENT}.{namespace}"
    # Some streams run all the time, also on the pods that go.
    with open_streams(real_cluster, host, 6, SLOW) as few:
        with open_streams(real_cluster, host, 40, SLOW) as many:
            up = await_replicas(real_cluster, namespace, 3, UP_SECONDS)
        await_replicas(real_cluster, namespace, 1, DOWN_SECONDS)
    print(f"From load to three pods Ready: {up:.0f} s.")  # noqa: T201
    print(f"{len(few.ended) + len(many.ended)} streams, {len(few.broken) + len(many.broken)} cut.")  # noqa: T201
    assert [*few.broken, *many.broken] == []


def test_pods_follow_their_cpu(real_cluster: Cluster, namespace: str, apply: Any) -> None:
    little = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}}
    apply(resources=little, autoscaling=scaled(targetCPUUtilizationPercentage=80, maxReplicas=2))

    with open_streams(real_cluster, f"{AGENT}.{namespace}", 8, "Quick."):
        await_replicas(real_cluster, namespace, 2, UP_SECONDS)


def test_workers_follow_their_queue(real_cluster: Cluster, namespace: str, apply_with_workers: Any) -> None:
    apply_with_workers()
    submit(real_cluster, namespace, 30, SLOW)
    await_replicas(real_cluster, namespace, 3, UP_SECONDS, WORKER)
    wait_until(lambda: count(real_cluster, namespace, "completed") == 30, "all tasks are done", DOWN_SECONDS)
    await_replicas(real_cluster, namespace, 1, DOWN_SECONDS, WORKER)
    assert count(real_cluster, namespace, "failed") == 0


def test_while_the_model_api_turns_requests_away_no_pods_come(
    real_cluster: Cluster, namespace: str, measured: Prometheus, apply: Any
) -> None:
    apply(autoscaling=scaled(targetInFlightRequests=10))

    with open_streams(real_cluster, f"{AGENT}.{namespace}", 40, "[[fault:429 retry-after=2]] Tell me all."):
        held_back = f'sum(agent_requests_in_flight{{namespace="{namespace}"}}) > 30'
        wait_until(lambda: bool(measured.query(held_back)), "many requests are in flight", UP_SECONDS)
        assert most_replicas(real_cluster, namespace, HELD_SECONDS) == 1
        assert measured.query(held_back), "they still are"


def test_while_the_model_api_turns_tasks_away_no_workers_come(
    real_cluster: Cluster, namespace: str, apply_with_workers: Any
) -> None:
    apply_with_workers()
    submit(real_cluster, namespace, 30, "[[fault:529 retry-after=60]]")
    assert most_replicas(real_cluster, namespace, HELD_SECONDS, WORKER) == 1
    assert count(real_cluster, namespace, "pending") == 30


def test_a_value_that_is_missing_is_told_and_its_return_too(
    real_cluster: Cluster, namespace: str, model_api: str, measured: Prometheus
) -> None:
    put_secret(real_cluster, namespace, "key-of-the-tests")
    both = scaled(targetInFlightRequests=10, targetCPUUtilizationPercentage=80)
    hidden = secret_spec(model_api, autoscaling=both, podAnnotations={"prometheus.io/scrape": "false"})
    apply_agent(real_cluster, namespace, hidden)

    def missing() -> bool:
        told = condition(real_cluster, namespace, "ScalingActive")
        return told.get("status") == "False" and "agent_requests_in_flight" in told["message"]

    wait_until(missing, "it is told", UP_SECONDS)
    apply_spec(real_cluster, namespace, {**hidden, "podAnnotations": {}})
    await_scaling(real_cluster, namespace)
