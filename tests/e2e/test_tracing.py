"""Traces on the real node: of a request and of a task, from the caller through API, queue and worker to a collector."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e import prometheus
from e2e.agents import AGENT, READY_SECONDS, apply_agent, client, put_secret, secret_spec
from support import collector
from support.eventually import eventually
from testbed import scripts
from testbed.cluster import Cluster
from testbed.redis import SHARED, put_redis

pytestmark = pytest.mark.usefixtures("operator")

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLED = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
TURN, ATTEMPT = "chat claude-sonnet-5-5", "process tasks"


@pytest.fixture
def traced(real_cluster: Cluster, namespace: str, model_api: str) -> Iterator[httpx.Client]:
    """The collector of an agent with a worker, both traced."""
    endpoint = scripts.start(real_cluster, namespace, "collector", Path(collector.__file__), collector.PORT)
    put_redis(real_cluster, namespace)
    put_secret(real_cluster, namespace, "key-of-the-tests")
    watched = {"redis": SHARED, "worker": {"enabled": True}, "monitoring": {"tracing": {"endpoint": endpoint}}}
    apply_agent(real_cluster, namespace, secret_spec(model_api, **watched))
    with client(real_cluster, namespace, "svc/collector") as http:
        yield http


def test_a_request_and_a_task_are_followed_through_api_queue_and_worker(
    real_cluster: Cluster, namespace: str, traced: httpx.Client
) -> None:
    with prometheus.running(real_cluster, namespace, []) as found, client(real_cluster, namespace) as http:
        http.post("/chat", json={"message": "Hello."}, headers=CALLED).raise_for_status()
        http.post("/tasks", json={"message": "Hello."}, headers=CALLED).raise_for_status()
        # API and worker each export their spans every few seconds.
        expected = {TURN: 2, ATTEMPT: 1, "POST /chat": 1, "POST /tasks": 1}
        exported = lambda: {name: len(_of(traced, name)) for name in expected} == expected  # noqa: E731
        eventually(exported, "all spans are exported", READY_SECONDS)
        [chat], [task], [attempt] = (_of(traced, name) for name in ("POST /chat", "POST /tasks", ATTEMPT))
        turns = {turn["parent_id"]: turn for turn in _of(traced, TURN)}

        assert {span["parent_id"] for span in (chat, task)} == {PARENT}
        assert attempt["parent_id"] == task["span_id"]
        assert turns.keys() == {chat["span_id"], attempt["span_id"]}
        assert turns[chat["span_id"]]["resource"]["host.name"] == chat["resource"]["host.name"]
        assert turns[attempt["span_id"]]["resource"]["host.name"].startswith(f"{AGENT}-worker-")
        for turn in turns.values():
            resource, attributes = turn["resource"], turn["attributes"]
            assert (resource["service.name"], resource["service.namespace"]) == (AGENT, namespace)
            assert attributes["gen_ai.request.model"] == "claude-sonnet-5-5"
            assert int(attributes["gen_ai.usage.output_tokens"]) > 0

        for span in (chat, attempt):
            said = real_cluster.kubectl("logs", span["resource"]["host.name"], "-n", namespace)
            assert f'"trace_id":"{TRACE}"' in said
        times = "agent_http_request_duration_seconds_bucket"
        eventually(lambda: TRACE in found.traces(times, 600), "the histogram leads to the trace", 60)


def _of(http: httpx.Client, name: str) -> list[dict[str, Any]]:
    """Return the spans of this name in the caller's trace."""
    spans = http.get("/").raise_for_status().json()
    return [span for span in spans if (span["trace_id"], span["name"]) == (TRACE, name)]
