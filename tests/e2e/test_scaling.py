"""Pods are added under load and removed after it, with no stream cut, by the cluster's own autoscalers.

These are slow (they poll every 5 s, and values are up to 15 s old), so the agents of all tests start at once.
With `--keda` agents have `engine: keda`, and a real KEDA scales them.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from e2e.agents import (
    AGENT,
    READY_SECONDS,
    apply_spec,
    client,
    condition,
    is_ready,
    notice_kinds,
    put_secret,
    secret_spec,
)
from e2e.measuring import measuring
from e2e.prometheus import Prometheus
from e2e.streams import open_streams
from stand_in import asking
from support.eventually import eventually
from testbed.cluster import Cluster
from testbed.redis import SHARED, put_redis

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timing]

FOUND_SECONDS = 180
UP_SECONDS = 120
DOWN_SECONDS = 180
# Eight polls of the controller, the oldest with values from before the load.
HELD_SECONDS = 40
SLOW = asking("List them all.", slow=0.5)
WORKER = f"{AGENT}-worker"

SCALED = {
    "enabled": True,
    "minReplicas": 1,
    "maxReplicas": 3,
    # The default is to wait for five minutes before removing pods.
    "behavior": {"scaleDown": {"stabilizationWindowSeconds": 15}},
}
BY_REQUESTS = {"autoscaling": SCALED | {"targetInFlightRequests": 10}}
BY_CPU = {
    "autoscaling": SCALED | {"targetCPUUtilizationPercentage": 80, "maxReplicas": 2},
    "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
}
BY_QUEUE = {
    "redis": SHARED,
    "worker": {"enabled": True, "concurrency": 1, "autoscaling": SCALED | {"targetQueueDepth": 5}},
}
# Nothing polls its pods for their requests in flight.
BLIND = {
    "autoscaling": BY_REQUESTS["autoscaling"] | {"targetCPUUtilizationPercentage": 80},
    "podAnnotations": {"prometheus.io/scrape": "false"},
}
AGENTS: dict[str, dict[str, Any]] = {
    "by requests": BY_REQUESTS,
    "by CPU": BY_CPU,
    "by queue": BY_QUEUE,
    "by requests, throttled": BY_REQUESTS,
    "by queue, throttled": BY_QUEUE,
    "blind": BLIND,
}


# The autoscaler's name for the requests in flight.
IN_FLIGHT = {"hpa": "agent_requests_in_flight", "keda": "s1-prometheus"}


@pytest.fixture(scope="module")
def engine(pytestconfig: pytest.Config) -> str:
    """The engine of the autoscalers."""
    return "keda" if pytestconfig.getoption("--keda") else "hpa"


@pytest.fixture(scope="module")
def measured(real_cluster: Cluster, operator: None, engine: str) -> Iterator[Prometheus]:
    """metrics-server, Prometheus, and prometheus-adapter or KEDA."""
    with real_cluster.fresh_namespace() as place, measuring(real_cluster, place, engine) as prometheus:
        if engine == "keda":
            notice_kinds(real_cluster)
        yield prometheus


@pytest.fixture(scope="module")
def places(real_cluster: Cluster, measured: Prometheus, model_api: str, engine: str) -> Iterator[dict[str, str]]:
    """The namespace of each agent. All agents are ready, and the metrics of those that have any are available."""
    with ExitStack() as stack:
        found = {name: stack.enter_context(real_cluster.fresh_namespace()) for name in AGENTS}
        for name, place in found.items():
            if "redis" in AGENTS[name]:
                put_redis(real_cluster, place)
            put_secret(real_cluster, place, "key-of-the-tests")
            spec = secret_spec(model_api, **AGENTS[name])
            if engine == "keda":
                asking = {"engine": "keda", "prometheusAddress": measured.address}
                spec = spec | {"autoscaling": spec["autoscaling"] | asking}
            apply_spec(real_cluster, place, spec)
        for name, place in found.items():
            eventually(partial(is_ready, real_cluster, place), f"{name}: ready", READY_SECONDS)
            if name != "blind":
                eventually(partial(gets_values, real_cluster, place), f"{name}: measured", FOUND_SECONDS)
        yield found


def gets_values(cluster: Cluster, namespace: str) -> bool:
    """Return whether the agent's status reports that its autoscaler gets all its metrics."""
    return bool(condition(cluster, namespace, "ScalingActive").get("status") == "True")


def await_replicas(cluster: Cluster, namespace: str, number: int, seconds: float, name: str = AGENT) -> float:
    """Wait for exactly so many ready pods; return the seconds that it took."""
    started = time.monotonic()

    def there() -> bool:
        status = cluster.get("deployment", name, "-n", namespace).get("status", {})
        return int(status.get("readyReplicas", 0)) == int(status.get("replicas", 0)) == number

    eventually(there, f"{number} pods of {name}", seconds)
    return time.monotonic() - started


def wanted_replicas(cluster: Cluster, namespace: str, name: str = AGENT) -> int:
    return int(cluster.get("deployment", name, "-n", namespace)["spec"]["replicas"])


def submit(cluster: Cluster, namespace: str, tasks: int, message: str) -> None:
    with client(cluster, namespace) as http:
        for number in range(tasks):
            http.post("/tasks", json={"message": f"{message} {number}"}).raise_for_status()


def count(cluster: Cluster, namespace: str, status: str) -> int:
    """Return the number of tasks in this state, as the agent counts them every few seconds."""
    with client(cluster, namespace, f"deployment/{AGENT}", 9090) as http:
        lines = http.get("/metrics").raise_for_status().text.splitlines()
    [value] = [line.rsplit(" ", 1)[1] for line in lines if line.startswith(f'agent_tasks{{state="{status}"}}')]
    return int(float(value))


def test_a_missing_metric_is_reported(real_cluster: Cluster, places: dict[str, str], engine: str) -> None:
    def reported() -> bool:
        found = condition(real_cluster, places["blind"], "ScalingActive")
        return found.get("status") == "False" and IN_FLIGHT[engine] in found["message"]

    eventually(reported, "it is reported", FOUND_SECONDS)


def test_pods_follow_requests_in_flight_and_no_stream_is_cut(real_cluster: Cluster, places: dict[str, str]) -> None:
    place = places["by requests"]
    host = f"{AGENT}.{place}"
    # Some streams run all the time, including on the pods that are removed.
    with open_streams(real_cluster, host, 6, SLOW) as few:
        with open_streams(real_cluster, host, 40, SLOW) as many:
            up = await_replicas(real_cluster, place, 3, UP_SECONDS)
        await_replicas(real_cluster, place, 1, DOWN_SECONDS)
    print(f"From load to three pods Ready: {up:.0f} s.")  # noqa: T201
    print(f"{len(few.ended) + len(many.ended)} streams, {len(few.broken) + len(many.broken)} cut.")  # noqa: T201
    assert [*few.broken, *many.broken] == []


def test_no_pods_are_added_while_the_model_api_throttles_requests_and_tasks(
    real_cluster: Cluster, places: dict[str, str], measured: Prometheus
) -> None:
    api, queue = places["by requests, throttled"], places["by queue, throttled"]
    # Without Retry-After, as most 529s. The first one probes for the others.
    submit(real_cluster, queue, 1, asking(fault=529))
    rejected = f'sum(agent_model_requests_total{{namespace="{queue}", outcome="overloaded"}})'
    eventually(lambda: measured.value(rejected) >= 1, "a task was rejected", UP_SECONDS)
    submit(real_cluster, queue, 30, asking(fault=529))
    with open_streams(real_cluster, f"{AGENT}.{api}", 40, asking("List them all.", fault=429, retry_after=2)):
        in_flight = f'sum(agent_requests_in_flight{{namespace="{api}"}}) > 30'
        eventually(lambda: bool(measured.query(in_flight)), "many requests are in flight", UP_SECONDS)
        end = time.monotonic() + HELD_SECONDS
        while time.monotonic() < end:
            assert wanted_replicas(real_cluster, api) == 1
            assert wanted_replicas(real_cluster, queue, WORKER) == 1
            time.sleep(1)
        eventually(lambda: bool(measured.query(in_flight)), "they still are", UP_SECONDS)
    assert count(real_cluster, queue, "failed") == count(real_cluster, queue, "completed") == 0


def test_pods_follow_their_cpu_and_workers_their_queue(real_cluster: Cluster, places: dict[str, str]) -> None:
    cpu, queue = places["by CPU"], places["by queue"]
    submit(real_cluster, queue, 30, SLOW)
    with open_streams(real_cluster, f"{AGENT}.{cpu}", 8, "Quick."):
        await_replicas(real_cluster, queue, 3, UP_SECONDS, WORKER)
        await_replicas(real_cluster, cpu, 2, UP_SECONDS)
    eventually(lambda: count(real_cluster, queue, "completed") == 30, "all tasks are done", DOWN_SECONDS)
    await_replicas(real_cluster, queue, 1, DOWN_SECONDS, WORKER)
    assert count(real_cluster, queue, "failed") == 0
