"""What pods report: an outage of a dependency in a condition, a column, an Event and a metric; and approvals."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from support.eventually import eventually
from support.operator import Namespace, OperatorProcess, agent, install_definition, operator
from testbed.cluster import Cluster

pytestmark = pytest.mark.timing

# A loopback address used by this test alone: the metrics port is the same on every pod.
ADDRESS, PORT = "127.86.75.40", 9090
# A poll comes within a minute, a second one to confirm it 15 s later, and the end of an outage takes three polls.
SECONDS = 180.0
DOWN = """agent_dependency_up{component="model_api"} 0.0
agent_dependency_failing{component="model_api",kind="dns"} 1.0
agent_dependency_up{component="redis"} 1.0
"""
UP = DOWN.replace("0.0", "1.0").replace('"dns"} 1.0', '"dns"} 0.0')
PRIMARY_DOWN = """agent_dependency_up{component="model_primary"} 0.0
agent_dependency_failing{component="model_primary",kind="overloaded"} 1.0
"""


class Pod:
    """A server that answers in place of the agent's pod."""

    metrics = DOWN


@contextmanager
def answering() -> Iterator[Pod]:
    pod = Pod()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(pod.metrics.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name that http.server gives
            pass

    server = ThreadingHTTPServer((ADDRESS, PORT), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield pod
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def here(control_plane: Cluster, namespace: str) -> Namespace:
    install_definition(control_plane)
    return Namespace(control_plane, namespace)


def wide(here: Namespace) -> dict[str, str]:
    """Return the columns of the agent's row by their titles."""
    header, line = here.kubectl("get", "agentdeployment", "hello", "-owide").splitlines()
    starts = [header.index(title) for title in header.split()]
    ends = [*starts[1:], None]
    return {header[start:end].strip(): line[start:end].strip() for start, end in zip(starts, ends, strict=True)}


def serve(here: Namespace) -> None:
    """Act as the kubelet: the agent's pod is running and ready, and has the address."""
    eventually(lambda: here.list("pods"), "there is a pod")
    here.serve()
    for pod in here.list("pods"):
        here.set_pod_status(pod["metadata"]["name"], {"podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}]})


def await_dependencies(here: Namespace, status: str, reason: str) -> None:
    found = eventually(
        lambda: (each := here.condition("DependenciesReachable")).get("status") == status and each,
        f"DependenciesReachable is {status}: {here.condition('DependenciesReachable')}",
        SECONDS,
    )
    assert found["reason"] == reason


def events(here: Namespace) -> list[tuple[str, str]]:
    return [
        (event["type"], event["reason"])
        for event in here.list("events")
        if event["involvedObject"]["kind"] == "AgentDeployment"
    ]


def without_dependencies(process: OperatorProcess) -> float:
    return process.metric("agent_operator_agents_without_dependencies")


def test_an_outage_is_reported_until_it_ends(here: Namespace) -> None:
    with operator(here.cluster.kubeconfig, here.name) as process, answering() as pod:
        here.apply(agent())
        serve(here)
        here.await_condition("Ready", "True", "Serving")
        assert wide(here)["REPLICAS"] == "1/1"
        await_dependencies(here, "False", "ModelAPIUnavailable")

        assert "its name cannot be resolved" in here.condition("DependenciesReachable")["message"]
        assert "its name cannot be resolved" in here.condition("Degraded")["message"]
        assert wide(here)["DEPENDENCIES"] == "False"
        assert here.condition("Ready")["status"] == "True"
        eventually(lambda: ("Warning", "ModelAPIUnavailable") in events(here), "there is an Event")
        eventually(lambda: without_dependencies(process) == 1, "the metric counts it")

        pod.metrics = UP
        await_dependencies(here, "True", "Reachable")
        eventually(lambda: without_dependencies(process) == 0, "the metric counts it no more")
        eventually(lambda: ("Normal", "DependenciesReachable") in events(here), "its end is an Event")
        assert here.condition("Degraded")["message"] == "No problem is known"


def test_an_agent_with_a_fallback_says_when_it_answers(here: Namespace) -> None:
    small = {"provider": "anthropic", "model": "claude-small", "credentials": {"secretName": "other"}}
    with operator(here.cluster.kubeconfig, here.name), answering() as pod:
        pod.metrics = UP + PRIMARY_DOWN
        for name in ("own", "other"):
            here.kubectl("create", "secret", "generic", name, f"--from-literal=ANTHROPIC_API_KEY=sk-{name}")
        here.apply(agent(agent={"provider": "anthropic", "fallbacks": [small]}, apiKey={"secretName": "own"}))
        serve(here)
        [written] = json.loads(here.get("configmap", "hello")["data"]["MODEL_FALLBACKS"])
        assert written == {"provider": "anthropic", "model": "claude-small", "secretsDir": "fallback-1"}
        here.await_condition("Ready", "True", "Serving")
        await_reason(here, "OnFallback")
        assert "it is overloaded" in here.condition("DependenciesReachable")["message"]

        pod.metrics = UP + PRIMARY_DOWN.replace("0.0", "1.0").replace('"overloaded"} 1.0', '"overloaded"} 0.0')
        await_reason(here, "Reachable")


def await_reason(here: Namespace, reason: str) -> None:
    found = eventually(
        lambda: (each := here.condition("DependenciesReachable")).get("reason") == reason and each,
        f"the reason of DependenciesReachable is {reason}: {here.condition('DependenciesReachable')}",
        SECONDS,
    )
    assert found["status"] == "True"


def test_turns_that_wait_for_approvals_are_in_the_status_and_once_in_an_event(here: Namespace) -> None:
    tools = [{"name": "berths", "mcp": {"url": "http://berths.harbor.svc:8080/mcp"}, "approve": ["book_*"]}]
    with operator(here.cluster.kubeconfig, here.name), answering() as pod:
        pod.metrics = UP + "agent_approvals_waiting 2.0\n"
        here.apply(agent(tools=tools))
        serve(here)
        await_waiting(here, 2)
        eventually(lambda: ("Normal", "ApprovalsWaiting") in events(here), "there is an Event")

        pod.metrics = UP + "agent_approvals_waiting 3.0\n"
        await_waiting(here, 3)
    posted = [event["message"] for event in here.list("events") if event["reason"] == "ApprovalsWaiting"]
    command = f"kubectl agent approvals hello -n {here.name}"
    assert posted == [f"2 turns wait for the approval of tool calls, which `{command}` lists"]


def await_waiting(here: Namespace, count: int) -> None:
    eventually(
        lambda: here.get("agentdeployment", "hello").get("status", {}).get("approvalsWaiting") == count,
        f"the status has {count} waiting approvals",
        SECONDS,
    )
