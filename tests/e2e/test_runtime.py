"""Runtimes in real pods: they answer, reach the model without its key, and what keeps them from it is named."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.agents import (
    AGENT,
    READY_SECONDS,
    agent_object,
    apply_agent,
    client,
    events,
    is_ready,
    lives,
    pods,
    put_secret,
    secret_spec,
)
from e2e.runtimes import AS_A_USER, NOT_HTTP, put_file, python, server
from support.eventually import eventually
from support.frameworks import IMAGE_CONTEXT, go_program
from support.operator import COMMAND
from testbed import images, program_image
from testbed.cluster import Cluster

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timing]
REPORT_SECONDS = 60
# As for a changed Secret (test_secrets.py): the kubelet's syncFrequency of a minute with its jitter, and a watch.
SYNC_SECONDS = 100
KEY = "key-of-the-tests"
GATEWAY_PORT = 8089


@pytest.fixture(scope="module")
def go_image(real_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The agent in Go as an image of that single file, in which no user is named."""
    return program_image.load_file(real_cluster, "go-agent", go_program(tmp_path_factory.mktemp("go")))


@pytest.fixture(scope="module")
def agentcore_image(real_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The agent for Bedrock AgentCore as an image with a user of its own."""
    reference, archive = "registry.example.com/agentcore-agent:1", tmp_path_factory.mktemp("agentcore") / "image.tar"
    images.build(IMAGE_CONTEXT, reference, archive)
    real_cluster.load_image(archive)
    return reference


@pytest.fixture(scope="module")
def troubled(real_cluster: Cluster, operator: None, model_api: str, go_image: str) -> Iterator[str]:
    """A namespace with one agent for each fault of a runtime."""
    runtimes: dict[str, dict[str, Any]] = {
        # First, because the operator polls what it reports of a running pod.
        "other-protocol": python(server(), startupSeconds=60),
        "absent-image": {"image": "localhost:1/absent/agent:1"},
        "root": {"image": go_image},
        "crash": python("import sys; print('No such berth'); sys.exit(3)"),
        "memory": python("bytearray(10**9)", resources={"limits": {"memory": "32Mi"}}),
        "other-port": python(server(port=9999)),
        "loopback": python(server(host="127.0.0.1")),
        "health-path": python(server(status=404)),
        "busy": python(server(status=503)),
        "not-http": NOT_HTTP,
        "no-file": {"code": {"configMapKeyRef": {"name": "absent", "key": "agent.py"}}},
    }
    with real_cluster.fresh_namespace() as namespace:
        put_secret(real_cluster, namespace, KEY)
        small = {"requests": {"cpu": "5m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}
        agents = [
            agent_object(secret_spec(model_api, runtime=runtime, resources=small)) | {"metadata": {"name": name}}
            for name, runtime in runtimes.items()
        ]
        listed = {"apiVersion": "v1", "kind": "List", "items": agents}
        real_cluster.kubectl("apply", "-n", namespace, "-f-", stdin=json.dumps(listed))
        yield namespace


def test_a_runtime_of_another_protocol_is_named_at_its_first_turn(real_cluster: Cluster, troubled: str) -> None:
    _await_ready(real_cluster, troubled, "other-protocol")
    with client(real_cluster, troubled, "svc/other-protocol") as http:
        answer = http.post("/chat", json={"message": "Which berth?"})
    assert answer.status_code == 502
    assert "may speak another protocol" in answer.text

    def report() -> str:
        return _kubectl_agent(real_cluster, troubled, "doctor", "other-protocol")

    eventually(lambda: "RuntimeUnavailable" in report(), "doctor names it", REPORT_SECONDS)
    assert "runtime.protocol" in report()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("absent-image", ("ImagePullBackOff", "localhost:1/absent/agent:1", "runtime.image")),
        ("root", ("CreateContainerConfigError", "run as root", "runtime.securityContext.runAsUser")),
        ("crash", ("CrashLoopBackOff", "exit code 3", "-c runtime --previous")),
        ("memory", ("OOMKilled", "more memory", "runtime.resources.limits.memory")),
        ("other-port", ("RuntimeNotResponding", "nothing listens on port 8080", "set runtime.port")),
        ("loopback", ("RuntimeNotResponding", "at the pod's address", "0.0.0.0 instead of 127.0.0.1")),
        ("health-path", ("RuntimeNotResponding", "404 at /ping", "runtime.healthPath")),
        ("busy", ("RuntimeNotResponding", "503 at /ping", "while it is busy")),
        ("not-http", ("RuntimeNotResponding", "does not speak HTTP", "runtime.port")),
        ("no-file", ("ConfigMapMissing", "ConfigMap absent does not exist", "absent")),
    ],
)
def test_what_keeps_a_runtime_from_working_is_named_with_what_to_change(
    name: str, expected: tuple[str, str, str], real_cluster: Cluster, troubled: str
) -> None:
    reason, named, advised = expected

    def degraded() -> dict[str, Any]:
        return _conditions(real_cluster, troubled, name).get("Degraded", {})

    eventually(lambda: degraded().get("reason") == reason, f"{name} is Degraded for {reason}", REPORT_SECONDS)
    condition = degraded()
    assert condition["status"] == "True"
    assert named in condition["message"]
    assert reason in real_cluster.kubectl("get", "agentdeployment", name, "-n", troubled, "-owide")

    report = _kubectl_agent(real_cluster, troubled, "doctor", name)
    cause, _, advice = report.partition("What to do: ")
    assert f"Cause ({reason})" in cause, report
    assert named in cause, report
    assert advised in advice.splitlines()[0], report


def test_an_agent_of_another_framework_answers_from_its_own_image_and_as_its_own_user(
    real_cluster: Cluster, namespace: str, model_api: str, agentcore_image: str
) -> None:
    put_secret(real_cluster, namespace, KEY)
    apply_agent(real_cluster, namespace, secret_spec(model_api, runtime={"image": agentcore_image}))

    with client(real_cluster, namespace) as http:
        answer = http.post("/chat", json={"message": "Hello, AgentCore!"}).raise_for_status().json()
        assert 'Stand-in heard "Hello, AgentCore!"' in answer["response"]
        with http.stream("POST", "/chat/stream", json={"message": "And as a stream?"}) as stream:
            *texts, done = list(events(stream.iter_lines()))
        assert len(texts) > 1
        assert done["type"] == "done"
    whoami = ["/venv/bin/python", "-c", "import os; print(os.getuid())"]
    user = real_cluster.kubectl("exec", "-n", namespace, f"deployment/{AGENT}", "-c", "runtime", "--", *whoami)
    assert user.strip() == "10003"


def test_a_program_in_a_bare_image_answers_with_the_model_and_without_its_key(
    real_cluster: Cluster, namespace: str, model_api: str, go_image: str
) -> None:
    put_secret(real_cluster, namespace, KEY)
    runtime = {"image": go_image, "securityContext": AS_A_USER}
    apply_agent(real_cluster, namespace, secret_spec(model_api, runtime=runtime))

    header, row = real_cluster.kubectl("get", "agentdeployments", "-n", namespace).splitlines()
    assert dict(zip(header.split(), row.split(), strict=True))["READY"] == "True"
    with client(real_cluster, namespace) as http, client(real_cluster, "model-api", "svc/model-api") as model:
        answer = http.post("/chat", json={"message": "Hello, Go!"}).raise_for_status().json()
        assert 'Stand-in heard "Hello, Go!"' in answer["response"]
        assert answer["tokens_used"] > 0

        with http.stream("POST", "/chat/stream", json={"message": "And in pieces?"}) as stream:
            *texts, done = list(events(stream.iter_lines()))
        assert 'Stand-in heard "And in pieces?"' in "".join(each["content"] for each in texts)
        assert (done["type"], done["output_tokens"] > 0) == ("done", True)

        accepted = http.post("/tasks", json={"message": "As a task."}).raise_for_status().json()
        place = f"/tasks/{accepted['task_id']}"
        eventually(lambda: http.get(place).json()["status"] == "completed", "the task is done", READY_SECONDS)

        asked = [each["message"] for each in model.get("/stand-in/requests").json()]
    assert [asked.count(each) for each in ("Hello, Go!", "And in pieces?", "As a task.")] == [1, 1, 1]
    [pod] = pods(real_cluster, namespace)
    with client(real_cluster, namespace, f"pod/{pod}", 9090) as metrics:
        assert _sum(metrics, "agent_model_requests_total") == 3.0
        assert _sum(metrics, "agent_runtime_requests_total") == 3.0


def test_a_python_file_answers_and_no_credential_is_in_its_reach(
    real_cluster: Cluster, namespace: str, model_api: str
) -> None:
    put_secret(real_cluster, namespace, KEY)
    runtime = put_file(real_cluster, namespace)
    apply_agent(real_cluster, namespace, secret_spec(model_api, runtime=runtime))
    [pod] = pods(real_cluster, namespace)

    with client(real_cluster, namespace) as http:
        headers = {"X-Request-ID": "of-this-test"}
        answer = http.post("/chat", json={"message": "Hello, file!"}, headers=headers).raise_for_status().json()
        assert 'Stand-in heard "Hello, file!"' in answer["response"]

        found = json.loads(http.post("/chat", json={"message": "search ship's pilot"}).json()["response"])
    assert {name: found[name] for name in ("key", "token", "mounts")} == {"key": [], "token": [], "mounts": []}
    # The search finds what is there: the system prompt.
    assert found["word"] != []
    assert found["searched"] > 1000

    lines = _kubectl_agent(real_cluster, namespace, "logs", AGENT, "--request-id=of-this-test").splitlines()
    assert {line.split(" ")[0] for line in lines} == {f"{pod}/agent", f"{pod}/runtime"}

    address = real_cluster.get("pod", pod, "-n", namespace)["status"]["podIP"]
    assert _connect_from_another_pod(real_cluster, address, 8000) == "open"
    assert _connect_from_another_pod(real_cluster, address, GATEWAY_PORT) == "refused"


def test_a_changed_file_in_a_config_map_answers_without_a_restart_and_one_with_an_error_does_not(
    real_cluster: Cluster, namespace: str, model_api: str
) -> None:
    put_secret(real_cluster, namespace, KEY)
    runtime = put_file(real_cluster, namespace, "async def answer(turn):\n    return 'first'\n")
    apply_agent(real_cluster, namespace, secret_spec(model_api, runtime=runtime))
    before = lives(real_cluster, namespace)

    with client(real_cluster, namespace) as http:

        def answer() -> str:
            text: str = http.post("/chat", json={"message": "Which?"}).raise_for_status().json()["response"]
            return text

        assert answer() == "first"
        put_file(real_cluster, namespace, "async def answer(turn):\n    return 'second'\n")
        eventually(lambda: answer() == "second", "the changed file answers", SYNC_SECONDS)

        put_file(real_cluster, namespace, "async def answer(turn):\n    return helper(\n")

        def report() -> str:
            return _kubectl_agent(real_cluster, namespace, "doctor", AGENT)

        eventually(lambda: "CodeOutdated" in report(), "doctor names the file", SYNC_SECONDS)
        assert answer() == "second"
    assert "/etc/portside/agent/agent.py:2: SyntaxError" in _kubectl_agent(real_cluster, namespace, "logs", AGENT)
    assert is_ready(real_cluster, namespace)
    assert lives(real_cluster, namespace) == before


def test_another_protocol_is_in_the_status(real_cluster: Cluster, troubled: str) -> None:
    def dependencies() -> dict[str, Any]:
        return _conditions(real_cluster, troubled, "other-protocol").get("DependenciesReachable", {})

    eventually(lambda: dependencies().get("reason") == "RuntimeUnavailable", "the status names it", 2 * READY_SECONDS)
    assert "runtime.protocol" in dependencies()["message"]


def _conditions(cluster: Cluster, namespace: str, name: str) -> dict[str, dict[str, Any]]:
    status = cluster.get("agentdeployment", name, "-n", namespace).get("status", {})
    return {each["type"]: each for each in status.get("conditions", [])}


def _await_ready(cluster: Cluster, namespace: str, name: str) -> None:
    def is_ready() -> bool:
        return _conditions(cluster, namespace, name).get("Ready", {}).get("status") == "True"

    eventually(is_ready, f"{name} is Ready", READY_SECONDS)


def _kubectl_agent(cluster: Cluster, namespace: str, *arguments: str) -> str:
    """Return what a tool prints, whatever its exit code."""
    command: list[str | Path] = [COMMAND, *arguments, "-n", namespace, "--kubeconfig", cluster.kubeconfig]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=READY_SECONDS)
    return done.stdout + done.stderr


def _sum(metrics: httpx.Client, name: str) -> float:
    lines = metrics.get("/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"{name}{{"))


def _connect_from_another_pod(cluster: Cluster, address: str, port: int) -> str:
    look = f"""
import socket
try:
    socket.create_connection(("{address}", {port}), 5).close()
    print("open")
except ConnectionRefusedError:
    print("refused")
"""
    return cluster.kubectl("exec", "-n", "model-api", "deployment/model-api", "--", "python", "-c", look).strip()
