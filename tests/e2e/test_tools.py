"""Tools in real pods: a server and a Python file beside the agent answer, come back after a crash, and can change."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.agents import READY_SECONDS, client
from support.eventually import eventually
from testbed import tool_agent
from testbed.cluster import Cluster

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timing]
AGENT, TOOL = tool_agent.AGENT, tool_agent.TOOL
# Probes of the servers, and the operator's reading of what the pods report.
REPORT_SECONDS = 60
# The kubelet's back-off for the first restart is 10 s.
RESTART_SECONDS = 60
# As for a changed Secret (test_secrets.py): the kubelet's syncFrequency of a minute with its jitter, and a watch.
SYNC_SECONDS = 100
FILE = """
from portside import tool


@tool
def tide(harbor: str) -> str:
    "The tide in a harbor."
    return f"{harbor}: WORD water"
"""


@pytest.fixture(scope="module")
def namespace(real_cluster: Cluster, operator: None) -> Iterator[str]:
    """A namespace with an agent that has a server and a Python file beside it; the tests share it."""
    code = {"name": "tides", "code": {"configMapKeyRef": {"name": "tides", "key": "tides.py"}, "port": 8091}}
    with real_cluster.fresh_namespace() as name:
        put_file(real_cluster, name, "high")
        listed = {"apiVersion": "v1", "kind": "List", "items": tool_agent.objects(name, code)}
        real_cluster.kubectl("apply", "-f-", stdin=json.dumps(listed))
        ready = ["wait", "--for=condition=Ready", f"agentdeployment/{AGENT}", f"--timeout={READY_SECONDS}s"]
        real_cluster.kubectl(*ready, "-n", name)
        yield name


def put_file(cluster: Cluster, namespace: str, word: str) -> None:
    """Create or change the Python file, whose tool answers with this word."""
    data = {"tides.py": FILE.replace("WORD", word)}
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tides"}, "data": data}
    cluster.kubectl("apply", "-n", namespace, "-f-", stdin=json.dumps(config_map))


def ask(cluster: Cluster, namespace: str, message: str) -> dict[str, Any]:
    with client(cluster, namespace, f"svc/{AGENT}") as http:
        answer: dict[str, Any] = http.post("/chat", json={"message": message}).raise_for_status().json()
        return answer


def pod(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """Return the only pod of the agent."""
    [found] = cluster.get("pods", "-n", namespace, "-l", f"app.kubernetes.io/instance={AGENT}")["items"]
    return dict(found)


def restarts(cluster: Cluster, namespace: str) -> dict[str, int]:
    """Return the number of restarts of each container."""
    status = pod(cluster, namespace)["status"]
    return {
        each["name"]: each["restartCount"] for each in status["initContainerStatuses"] + status["containerStatuses"]
    }


def tools_ready(cluster: Cluster, namespace: str) -> str | None:
    conditions = cluster.get("agentdeployment", AGENT, "-n", namespace)["status"]["conditions"]
    return next((each["status"] for each in conditions if each["type"] == "ToolsReady"), None)


def test_an_agent_without_a_key_calls_the_tools_beside_it(real_cluster: Cluster, namespace: str) -> None:
    counted = ask(real_cluster, namespace, tool_agent.QUESTION)
    looked_up = ask(real_cluster, namespace, "What is the tide in Hamburg?")

    name = pod(real_cluster, namespace)["metadata"]["name"]
    assert counted["response"] == f"list_pods answered: 1 pods run in {namespace}: {name}."
    assert [step["name"] for step in counted["steps"]] == ["list_pods"]
    assert looked_up["response"] == "tide answered: Hamburg: high water"
    assert [step["input"] for step in looked_up["steps"]] == [{"harbor": "Hamburg"}]


def test_only_the_tool_has_the_token_that_it_was_given(real_cluster: Cluster, namespace: str) -> None:
    spec = pod(real_cluster, namespace)["spec"]
    mounts = {
        each["name"]: {mount["name"] for mount in each["volumeMounts"]}
        for each in spec["initContainers"] + spec["containers"]
    }

    assert {name for name, mounted in mounts.items() if "account" in mounted} == {f"tool-{TOOL}"}
    assert not any(volume.startswith("kube-api-access") for mounted in mounts.values() for volume in mounted)


def test_a_server_that_ends_is_restarted_and_called_again(real_cluster: Cluster, namespace: str) -> None:
    before = restarts(real_cluster, namespace)
    container, name = f"tool-{TOOL}", pod(real_cluster, namespace)["metadata"]["name"]
    end = ["python", "-c", "import os, signal; os.kill(1, signal.SIGTERM)"]
    real_cluster.kubectl("exec", "-n", namespace, name, "-c", container, "--", *end)

    eventually(
        lambda: restarts(real_cluster, namespace)[container] == before[container] + 1,
        "the kubelet restarts the server",
        RESTART_SECONDS,
    )
    eventually(
        lambda: ask(real_cluster, namespace, tool_agent.QUESTION)["response"].startswith("list_pods answered: 1 pods"),
        "the tool is called again",
        RESTART_SECONDS,
    )
    others = {other: count for other, count in restarts(real_cluster, namespace).items() if other != container}
    assert others == {other: count for other, count in before.items() if other != container}


def test_a_changed_python_file_takes_effect_without_a_restart(real_cluster: Cluster, namespace: str) -> None:
    before = restarts(real_cluster, namespace)
    put_file(real_cluster, namespace, "low")

    eventually(
        lambda: (
            ask(real_cluster, namespace, "What is the tide in Hamburg?")["response"]
            == "tide answered: Hamburg: low water"
        ),
        "the changed file answers",
        SYNC_SECONDS,
    )
    assert restarts(real_cluster, namespace) == before


def test_the_status_of_the_agent_reports_that_its_tools_are_ready(real_cluster: Cluster, namespace: str) -> None:
    eventually(lambda: tools_ready(real_cluster, namespace) == "True", "ToolsReady is True", REPORT_SECONDS)
