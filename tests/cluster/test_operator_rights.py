"""The operator's rights are minimal: each verb is removed in turn, and something breaks."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.spec import AgentSpec
from agent_operator.kube.resources import CHILDREN
from agent_operator.manifests import desired
from support.eventually import DEADLINE_SECONDS, eventually
from support.operator import (
    COMMAND,
    Namespace,
    OperatorProcess,
    agent,
    documented_rules,
    install_definition,
    operator,
    service_account,
)
from testbed import cluster as clusters
from testbed import definitions
from testbed.cluster import Cluster
from testbed.paths import REPOSITORY
from testbed.ports import free_port

Right = tuple[str, str, str]  # group, resource, verb

RBAC = "rbac.authorization.k8s.io"
# Everything that an agent can have, so that every kind is created; and the same with all of it switched off.
RICH: dict[str, Any] = {
    "apiKey": {"value": "sk-test-key"},
    "auth": {"enabled": True},
    "redis": {"url": "redis://state:6379/0"},
    "replicas": 2,
    "autoscaling": {"enabled": True, "minReplicas": 2},
    "worker": {"enabled": True},
    "ingress": {"enabled": True},
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "gateway"}]},
    "monitoring": {"serviceMonitor": {"enabled": True}},
}
BY_KEDA: dict[str, Any] = {"autoscaling": {"enabled": True, "engine": "keda", "minReplicas": 2}}
POOR: dict[str, Any] = {
    "networkPolicy": {"enabled": False},
    "podDisruptionBudget": {"enabled": False},
    "serviceAccount": {"create": False},
}


def rights() -> list[Right]:
    """Return every right of docs/reference/operator-rbac.md."""
    return [
        (group, resource, verb)
        for rule in documented_rules()
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


# Lists at startup, and the watches from then on, are separate from the requests made for an agent.
WHILE_WORKING = [each for each in rights() if each[2] not in {"list", "watch"} or each[1] == "events"]
AT_START = [each for each in rights() if each[2] == "list" and each[1] != "events"]
# Two are required only by an admission plugin, of clients that set owner references.
# Servers of other products that tools refer to, by resource. Without the right, a condition names it.
SERVERS = {"mcpservers": "MCPServer", "remotemcpservers": "RemoteMCPServer"}
REFUSALS = {
    **{each: f"grant it get of {each[1]}.{each[0]}" for each in rights() if each[1] in SERVERS},
    ("portside.dev", "agentdeployments/finalizers", "update"): "refers to a resource you can't set finalizers on",
    ("", "configmaps", "delete"): "cannot set an ownerRef on a resource you can't delete",
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A control plane for this file alone, so that no other operator does the work of this one."""
    with clusters.provided("control-plane", None, name="rights") as cluster:
        install_definition(cluster)
        definitions.install(cluster, "HTTPRoute", "ServiceMonitor", "ScaledObject")
        for file in sorted((REPOSITORY / "tests" / "support" / "mcp_servers").glob("*.yaml")):
            cluster.kubectl("apply", "--server-side", "-f", str(file))
        cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
        yield cluster


@pytest.fixture(scope="module")
def here(cluster: Cluster) -> Namespace:
    """The namespace that the operator serves."""
    cluster.kubectl("create", "namespace", "rights")
    return Namespace(cluster, "rights")


@pytest.fixture(scope="module")
def account(cluster: Cluster, here: Namespace) -> Iterator[Path]:
    """The kubeconfig of the operator's service account, whose Role the tests change."""
    with service_account(cluster, here.name, cluster_wide=False) as kubeconfig:
        yield kubeconfig


@pytest.fixture(scope="module")
def running(account: Path, here: Namespace) -> Iterator[OperatorProcess]:
    """The operator, with the documented rights of one namespace."""
    with operator(account, here.name) as process:
        yield process


@pytest.mark.parametrize("right", WHILE_WORKING, ids=" ".join)
def test_without_this_right_a_request_is_refused(here: Namespace, running: OperatorProcess, right: Right) -> None:
    group, resource, verb = right
    name = f"a{WHILE_WORKING.index(right)}"
    _prepare(here, right, name)
    _grant(here, [each for each in rights() if each != right])
    said = len(running.log)
    try:
        _make_it_needed(here, right, name)
        words = REFUSALS.get(right, f'cannot {verb} resource "{resource}" in API group "{group}"')
        _await_words(running, words, said)
    finally:
        _grant(here, rights())
        here.kubectl("delete", "agentdeployment", name, "--ignore-not-found")


@pytest.mark.parametrize("right", AT_START, ids=" ".join)
def test_without_this_list_the_operator_does_not_start(here: Namespace, account: Path, right: Right) -> None:
    _grant(here, [each for each in rights() if each != right])
    try:
        ended = _run_until_it_ends(account, here)
    finally:
        _grant(here, rights())
    assert ended.returncode == 1
    assert "The operator lacks a permission" in ended.stderr
    assert f'cannot list resource \\"{right[1]}\\"' in ended.stderr


def test_without_the_watches_changes_of_each_kind_are_missed(here: Namespace, account: Path) -> None:
    watched = [each for each in rights() if each[2] == "watch"]
    assert watched
    _grant(here, [each for each in rights() if each not in watched])
    try:
        with operator(account, here.name) as process:
            for _, resource, _ in watched:
                _await_words(process, f'cannot watch resource "{resource}"')
    finally:
        _grant(here, rights())


def _prepare(here: Namespace, right: Right, name: str) -> None:
    """Bring the namespace into a state in which the next change needs the right."""
    _, resource, verb = right
    if resource in SERVERS:
        return
    if verb in {"delete", "list"} or right[1:] == ("agentdeployments", "get"):
        here.apply(_adopting(agent(name, **(_rich(resource) if verb == "delete" else {}))))
        here.await_condition("Progressing", "True", "RollingOut", name)
    elif verb == "get":
        (kind,) = (each.kind for each in CHILDREN if each.plural == resource)
        rich = AgentSpec.model_validate({"agent": {"provider": "echo"}, **_rich(resource)})
        in_the_way = next(each for each in desired(AgentDeployment(name, here.name, rich)) if each["kind"] == kind)
        in_the_way["metadata"]["labels"] = {}
        here.apply(in_the_way)


def _make_it_needed(here: Namespace, right: Right, name: str) -> None:
    """Make a change that cannot be carried out without the right."""
    group, resource, verb = right
    if resource in SERVERS:
        reference = {"group": group, "kind": SERVERS[resource], "name": "clock"}
        here.apply(agent(name, tools=[{"name": "clock", "mcp": {"serverRef": reference}}]))
    elif verb == "list":
        _let_a_pod_wait(here, name)
    elif right == ("", "configmaps", "delete"):
        # The operator adopts it again, with its owner's consent.
        change = {"ownerReferences": None, "annotations": {"portside.dev/adoptable-by": name}}
        here.kubectl("patch", "configmap", name, "--type=merge", "-p", json.dumps({"metadata": change}))
    elif right == ("", "events", "create"):
        here.apply(agent(name, resources={"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}))
    elif (resource, verb) == ("agentdeployments", "get"):
        here.kubectl("delete", "service", name)
    else:
        here.apply(agent(name, **(POOR if verb == "delete" else _rich(resource))))


def _rich(resource: str) -> dict[str, Any]:
    """Return a spec that enables everything, with the autoscaler (one of two kinds) that the right is about."""
    return RICH | BY_KEDA if resource == "scaledobjects" else RICH


def _await_words(process: OperatorProcess, words: str, start: int = 0) -> None:
    eventually(lambda: words in process.log[start:].replace("\\", ""), f"the log contains: {words}")


def _grant(here: Namespace, granted: list[Right]) -> None:
    """Grant the operator these rights and no others, and wait until the API server enforces them."""
    rules = [{"apiGroups": [group], "resources": [resource], "verbs": [verb]} for group, resource, verb in granted]
    role = {
        "apiVersion": f"{RBAC}/v1",
        "kind": "Role",
        "metadata": {"name": "portside-test", "namespace": here.name},
        "rules": rules,
    }
    here.kubectl("apply", "-f", "-", stdin=json.dumps(role))
    missing = [right for right in rights() if right not in granted]
    for right in missing or rights()[:1]:
        _await_right(here, right, "no" if missing else "yes")


def _await_right(here: Namespace, right: Right, answer: str) -> None:
    eventually(lambda: _may(here, right) == answer, f"{' '.join(right)}: {answer}")


def _may(here: Namespace, right: Right) -> str:
    group, resource, verb = right
    what, _, part = resource.partition("/")
    account = f"system:serviceaccount:{here.name}:agent-operator"
    target = f"{what}.{group}" if group else what
    subresource = [f"--subresource={part}"] if part else []
    return here.kubectl("auth", "can-i", verb, target, *subresource, f"--as={account}", check=False).strip()


def _run_until_it_ends(kubeconfig: Path, here: Namespace) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(
            [COMMAND, "run", f"--namespace={here.name}", f"--health-port={free_port()}"],
            env={"PATH": "/usr/bin:/bin", "KUBECONFIG": str(kubeconfig), "HOME": folder},
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )


def _adopting(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "metadata": {**document["metadata"], "annotations": {"portside.dev/adopt": "true"}}}


def _let_a_pod_wait(here: Namespace, name: str) -> None:
    """Act as the kubelet of a pod that waits for a Secret."""
    selector = f"--selector=app.kubernetes.io/instance={name}"
    pods = eventually(lambda: json.loads(here.kubectl("get", "pods", selector, "-ojson"))["items"], "there is a pod")
    waiting = {"waiting": {"reason": "ContainerCreating"}}
    state = {"name": "agent", "image": "x", "imageID": "", "ready": False, "restartCount": 0, "state": waiting}
    here.set_pod_status(pods[0]["metadata"]["name"], {"containerStatuses": [state]})
