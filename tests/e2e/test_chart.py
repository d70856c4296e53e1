"""The same agent without an operator: `helm install`, its notes and its tests, and `helm uninstall`."""

import json
import re
from importlib.metadata import version
from typing import Any

import pytest

from e2e.agents import AGENT, READY_SECONDS, agent_spec, client, leftovers, put_secret, secret_spec
from e2e.shell import run_block
from e2e.traffic import steady_traffic
from support.eventually import eventually
from testbed import paths
from testbed.cluster import Cluster
from testbed.errors import TestbedError

pytestmark = pytest.mark.timing
CHART = str(paths.REPOSITORY / "helm" / "agent")
ECHO = {"agent": {"provider": "echo"}}
# No client is allowed, so the pod of `helm test` needs its own rule.
NO_INGRESS = {"networkPolicy": {"ingressFrom": [{"podSelector": {"matchLabels": {"no": "pod"}}}]}}
RELEASES = sorted(path.name for path in (paths.REPOSITORY / "releases").iterdir() if path.is_dir())
ANSWER = '"response":"You said: Hello"'


def test_an_agent_installed_by_its_chart_answers_and_leaves_nothing(
    real_cluster: Cluster, namespace: str, model_api: str
) -> None:
    values = json.dumps(agent_spec(model_api))
    real_cluster.helm(*_install(namespace), "--wait", f"--timeout={READY_SECONDS}s", stdin=values)

    with client(real_cluster, namespace) as http:
        answer = http.post("/chat", json={"message": "And without an operator?"}).raise_for_status().json()
    assert 'Stand-in heard "And without an operator?"' in answer["response"]

    real_cluster.helm("uninstall", AGENT, "-n", namespace, "--wait")
    eventually(lambda: leftovers(real_cluster, namespace) == [], "nothing is left of the release", READY_SECONDS)


@pytest.mark.parametrize(
    ("values", "answers"),
    [
        ({"auth": {"enabled": True}, **NO_INGRESS}, 1),
        ({"service": {"type": "NodePort", "port": 8080}}, 2),
        ({"service": {"type": "LoadBalancer"}, "auth": {"enabled": True}}, 2),
    ],
    ids=["inside, with keys", "node port", "load balancer, with keys"],
)
def test_the_notes_work_as_printed(real_cluster: Cluster, namespace: str, values: dict[str, Any], answers: int) -> None:
    notes = real_cluster.helm(*_install(namespace), stdin=json.dumps(ECHO | values))
    if values.get("service", {}).get("type") == "LoadBalancer":
        _give_an_address(real_cluster, namespace)

    said = run_block(real_cluster, _commands(notes))

    assert re.search(rf"{AGENT}-test\n.*Phase: +Succeeded", said, re.DOTALL)
    assert said.count(ANSWER) == answers
    assert real_cluster.kubectl("get", "pod", f"{AGENT}-test", "-n", namespace, "--ignore-not-found") == ""


def test_helm_test_fails_with_the_reason_when_the_agent_cannot_answer(
    real_cluster: Cluster, namespace: str, model_api: str
) -> None:
    # Its Secret is missing: no pod starts.
    real_cluster.helm(*_install(namespace), stdin=json.dumps(secret_spec(model_api)))

    with pytest.raises(TestbedError, match="failed"):
        real_cluster.helm("test", AGENT, "-n", namespace, "--timeout=3m")

    said = real_cluster.kubectl("logs", f"{AGENT}-test", "-n", namespace)
    assert len(said.splitlines()) == 1
    assert "did not answer" in said


def test_a_missing_secret_is_reported_and_no_container_crash_loops(real_cluster: Cluster, namespace: str) -> None:
    values = {"apiKey": {"secretName": "anthropic"}}
    with pytest.raises(TestbedError, match=r"deadline exceeded|not ready|timed out"):
        real_cluster.helm(*_install(namespace), "--wait", "--timeout=10s", stdin=json.dumps(values))

    [pod] = real_cluster.get("pods", "-n", namespace, "-l", f"app.kubernetes.io/instance={AGENT}")["items"]
    [container] = pod["status"]["containerStatuses"]
    assert container["state"]["waiting"]["reason"] == "ContainerCreating"
    assert container["restartCount"] == 0
    # The command in the notes.
    said = real_cluster.kubectl("get", "events", "-n", namespace, "--field-selector", "type=Warning")
    assert 'secret "anthropic" not found' in said

    put_secret(real_cluster, namespace, "key-of-the-tests")
    eventually(lambda: _started(real_cluster, namespace), "the pod starts by itself", READY_SECONDS)


@pytest.mark.parametrize("release", RELEASES)
def test_an_agent_of_any_release_answers_throughout_an_upgrade_and_a_rollback(
    real_cluster: Cluster, namespace: str, model_api: str, release: str
) -> None:
    old = str(paths.REPOSITORY / "releases" / release / f"agent-{release}.tgz")
    put_secret(real_cluster, namespace, "key-of-the-tests")
    # The images of old releases are not available: both charts run the current one.
    values = json.dumps(secret_spec(model_api, image={"tag": version("portside")}, replicas=2))
    wait = ["-n", namespace, "--wait", f"--timeout={READY_SECONDS}s"]
    real_cluster.helm("install", AGENT, old, *wait, "-f-", stdin=values)

    with steady_traffic(real_cluster, f"http://{AGENT}.{namespace}") as traffic:
        real_cluster.helm("upgrade", AGENT, CHART, "--reuse-values", "--set", "agent.maxTokens=100", *wait)
        real_cluster.helm("rollback", AGENT, "1", *wait)

    assert traffic.answers
    assert traffic.failed == []


def _started(cluster: Cluster, namespace: str) -> bool:
    pods = cluster.get("pods", "-n", namespace, "-l", f"app.kubernetes.io/instance={AGENT}")["items"]
    return all(each.get("started") for pod in pods for each in pod["status"]["containerStatuses"])


def _install(namespace: str) -> list[str]:
    return ["install", AGENT, CHART, "-n", namespace, "-f-"]


def _commands(notes: str) -> str:
    """Return the commands in the notes: their indented lines."""
    return "\n".join(re.findall(r"^    (.*)$", notes.partition("NOTES:")[2], re.MULTILINE))


def _give_an_address(cluster: Cluster, namespace: str) -> None:
    """Act as a cloud's controller: the address is the node's, where kube-proxy answers for it."""
    [node] = cluster.get("nodes")["items"]
    [address] = [each["address"] for each in node["status"]["addresses"] if each["type"] == "InternalIP"]
    status = {"status": {"loadBalancer": {"ingress": [{"ip": address}]}}}
    patch = ["patch", "service", AGENT, "-n", namespace, "--subresource=status", "--type=merge"]
    cluster.kubectl(*patch, "-p", json.dumps(status))
