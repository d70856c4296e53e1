"""Pods that share a Redis: workers do the tasks that the API accepts, any replica continues a conversation, and all
share one limit."""

import time

import httpx
import pytest

from e2e.agents import AGENT, READY_SECONDS, apply_agent, client, put_secret, secret_spec
from support.eventually import eventually
from testbed.cluster import Cluster
from testbed.redis import SHARED, put_redis

pytestmark = pytest.mark.usefixtures("operator")
COMPONENT = "app.kubernetes.io/component"


@pytest.fixture
def shared_agent(real_cluster: Cluster, namespace: str, model_api: str) -> str:
    """A namespace with a Redis, and an agent of two API pods and one worker that uses it."""
    put_redis(real_cluster, namespace)
    put_secret(real_cluster, namespace, "key-of-the-tests")
    sharing = {"redis": SHARED, "worker": {"enabled": True, "replicas": 1}, "replicas": 2}
    apply_agent(real_cluster, namespace, secret_spec(model_api, **sharing))
    return namespace


def test_replicas_share_conversations_and_a_worker_does_the_tasks(real_cluster: Cluster, shared_agent: str) -> None:
    namespace = shared_agent
    one, other = _pods(real_cluster, namespace, "api")
    with (
        client(real_cluster, namespace, f"pod/{one}", 8000) as first,
        client(real_cluster, namespace, f"pod/{other}", 8000) as second,
        client(real_cluster, "model-api", "svc/model-api") as model,
    ):
        started = first.post("/chat", json={"message": "I am the pilot."}).raise_for_status().json()
        more = {"message": "Who am I?", "conversation_id": started["conversation_id"]}
        assert (
            second.post("/chat", json=more).raise_for_status().json()["conversation_id"] == started["conversation_id"]
        )
        asked = [each for each in model.get("/stand-in/requests").json() if each["message"] == more["message"]]
        assert "user: I am the pilot." in asked[-1]["history"]

        accepted = first.post("/tasks", json={"message": "Chart a course."})
        assert accepted.status_code == 202
        place = f"/tasks/{accepted.json()['task_id']}"
        eventually(lambda: _state(second, place) == "completed", "the task is done", READY_SECONDS)
        assert 'Stand-in heard "Chart a course."' in second.get(place).json()["result"]["response"]

    [worker] = _pods(real_cluster, namespace, "worker")
    with client(real_cluster, namespace, f"pod/{worker}", 9090) as http:
        assert _asked_the_model(http) == 1.0
    for pod in (one, other):
        with client(real_cluster, namespace, f"pod/{pod}", 9090) as http:
            assert _asked_the_model(http) == 1.0  # the one turn of the conversation


def test_added_pods_share_the_limit_of_all(real_cluster: Cluster, namespace: str, model_api: str) -> None:
    def taken() -> int:
        """Return how many requests get an answer, of forty to each pod."""
        answers = []
        for pod in _pods(real_cluster, namespace, "api"):
            with client(real_cluster, namespace, f"pod/{pod}", 8000) as http:
                answers += [http.post("/chat", json={"message": "Hello."}).status_code for _ in range(40)]
        assert {*answers} <= {200, 429}
        return answers.count(200)

    put_redis(real_cluster, namespace)
    put_secret(real_cluster, namespace, "key-of-the-tests")
    limited = {"redis": SHARED, "rateLimit": {"requestsPerMinute": 30}}
    apply_agent(real_cluster, namespace, secret_spec(model_api, **limited))
    started, alone = time.monotonic(), taken()
    apply_agent(real_cluster, namespace, secret_spec(model_api, **limited, replicas=3))
    eventually(lambda: len(_pods(real_cluster, namespace, "api")) == 3, "there are three pods", READY_SECONDS)
    together = taken()

    assert alone >= 30
    # One is returned every two seconds; with a limit each, the two other pods would have taken 60.
    assert alone + together <= 31 + (time.monotonic() - started) / 2


def _asked_the_model(http: httpx.Client) -> float:
    """Return how many requests this pod sent to the model API with success."""
    lines = http.get("/metrics").raise_for_status().text.splitlines()
    counts = [line for line in lines if line.startswith("agent_model_requests_total{") and 'outcome="ok"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in counts)


def _state(http: httpx.Client, place: str) -> str:
    state: str = http.get(place).raise_for_status().json()["status"]
    return state


def _pods(cluster: Cluster, namespace: str, component: str) -> list[str]:
    chosen = f"app.kubernetes.io/instance={AGENT},{COMPONENT}={component}"
    found = cluster.get("pods", "-n", namespace, "-l", chosen, "--field-selector=status.phase=Running")["items"]
    return sorted(pod["metadata"]["name"] for pod in found)
