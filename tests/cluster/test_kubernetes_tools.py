"""An agent with `kubernetes-mcp-server`, which may only read: it reads a real API server, and changes nothing.

The server is a process here, with the token of a ServiceAccount that has the role `view` in one namespace.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.agent import Service, running_service
from support.eventually import eventually
from support.mcp_servers import kubernetes
from support.operator import kubeconfig_for
from testbed.cluster import Cluster
from testbed.ports import free_port

READER = "reader"
PODS = ["crane-one", "crane-two"]


@pytest.fixture(scope="module")
def namespace(control_plane: Cluster) -> Iterator[str]:
    """A namespace for all tests of this file."""
    with control_plane.fresh_namespace() as name:
        yield name


@pytest.fixture(scope="module")
def reader(control_plane: Cluster, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kubeconfig of an account that may read a namespace with two pods."""
    rbac = "rbac.authorization.k8s.io"
    view = {
        "apiVersion": f"{rbac}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": READER},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": READER, "namespace": namespace}],
    }
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": READER}}
    listed = {"apiVersion": "v1", "kind": "List", "items": [account, view, *map(_pod, PODS)]}
    control_plane.kubectl("apply", "-n", namespace, "-f-", stdin=json.dumps(listed))
    token = control_plane.kubectl("create", "token", READER, "-n", namespace).strip()
    config = kubeconfig_for(control_plane.kubeconfig, token)
    for context in config["contexts"]:
        context["context"]["namespace"] = namespace
    file = tmp_path_factory.mktemp("reader") / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file


@pytest.fixture(scope="module")
def may_all(reader: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """An agent that may call all tools of the server."""
    with agent(tmp_path_factory.mktemp("agent"), reader) as service:
        yield service


@contextmanager
def agent(folder: Path, kubeconfig: Path, **fields: Any) -> Iterator[Service]:
    """Run an agent without a model, whose one server has this account; `fields` are more of the server's entry."""
    server = kubernetes(folder, "--kubeconfig", str(kubeconfig)).start()
    try:
        entry = {"name": "kubernetes", "mcp": {"url": server.url}, **fields}
        file = folder / "tools.json"
        file.write_text(json.dumps({"tools": [entry]}))
        settings = {"MODEL_PROVIDER": "echo", "TOOLS_FILE": str(file), "STATE_DIR": str(folder / "state")}
        with running_service(folder, **settings, METRICS_PORT=str(free_port())) as service:
            eventually(lambda: "Tool server was connected" in service.log(), "the server is connected")
            yield service
    finally:
        server.kill()


def ask(service: Service, message: str) -> dict[str, Any]:
    answer: dict[str, Any] = service.post("/chat", message=message).raise_for_status().json()
    return answer


def test_a_question_about_pods_is_answered_from_the_api_server(may_all: Service, namespace: str) -> None:
    answer = ask(may_all, "How many pods run in this namespace?")
    named = ask(may_all, f"List the pods in namespace {namespace}.")

    assert [(step["name"], step["input"]) for step in answer["steps"] + named["steps"]] == [
        ("pods_list", {}),
        ("pods_list_in_namespace", {"namespace": namespace}),
    ]
    for each in (answer, named):
        assert all(pod in each["response"] for pod in PODS)
        assert [step["is_error"] for step in each["steps"]] == [False]


def test_what_the_account_may_not_read_is_an_error_in_the_answer(may_all: Service) -> None:
    answer = ask(may_all, "List the pods in namespace kube-system.")

    assert answer["response"].startswith("pods_list_in_namespace failed: ")
    assert 'cannot list resource "pods" in API group "" in the namespace "kube-system"' in answer["response"]


def test_a_tool_that_writes_is_refused_by_the_rights_of_the_account(
    may_all: Service, control_plane: Cluster, namespace: str
) -> None:
    answer = ask(may_all, f"Delete the pod '{PODS[0]}'.")

    assert [(step["name"], step["is_error"]) for step in answer["steps"]] == [("pods_delete", True)]
    assert 'cannot delete resource "pods"' in answer["response"]
    assert "deletionTimestamp" not in control_plane.get("pod", PODS[0], "-n", namespace)["metadata"]


def test_a_tool_that_writes_is_not_offered_unless_it_is_allowed(reader: Path, tmp_path: Path) -> None:
    with agent(tmp_path, reader, allow=["*_list*"]) as service:
        question, order = ask(service, "Which pods are there?"), ask(service, f"Delete the pod '{PODS[0]}'.")

    assert [step["name"] for step in question["steps"]] == ["pods_list"]
    assert order["response"] == f"You said: Delete the pod '{PODS[0]}'."
    assert "steps" not in order


def _pod(name: str) -> dict[str, Any]:
    container = {
        "name": "crane",
        "image": "crane:1",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"containers": [container], "securityContext": security}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
