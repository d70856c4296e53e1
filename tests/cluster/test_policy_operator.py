"""The operator and a spec that its policy refuses: it reports the reason, and leaves the agent's objects unchanged."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.tools_bed import tool
from support.eventually import eventually
from support.operator import COMMAND, Namespace, OperatorProcess, agent, install_definition, operator
from testbed.cluster import Cluster

POLICY = {"loadBalancers": True, "serviceAnnotations": ["example.com/*"], "podLabels": ["team"]}
# Uses of the operator's rights by a user who may only create AgentDeployments.
DEPUTY: dict[str, Any] = {
    "service": {
        "type": "NodePort",
        "annotations": {"external-dns.alpha.kubernetes.io/hostname": "bank.example.com", "example.com/mine": "x"},
    },
    "ingress": {
        "enabled": True,
        "hosts": ["bank.example.com"],
        "annotations": {"nginx.ingress.kubernetes.io/configuration-snippet": "lua_need_request_body on;"},
    },
    "networkPolicy": {"extraEgress": [{}]},
    "serviceAccount": {"name": "ci-deployer", "annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/x"}},
    "sidecars": [
        {
            "name": "shell",
            "image": "busybox",
            "securityContext": {"privileged": True},
            "ports": [{"containerPort": 80, "hostPort": 80}],
        }
    ],
    "extraVolumes": [
        {"name": "host", "hostPath": {"path": "/"}},
        {"name": "tok", "projected": {"sources": [{"serviceAccountToken": {"path": "token", "audience": "sts"}}]}},
    ],
    "podLabels": {"azure.workload.identity/use": "true", "team": "docks"},
    "priorityClassName": "system-node-critical",
}
REFUSED = {
    "spec.service.type": "nodePorts",
    "spec.service.annotations[external-dns.alpha.kubernetes.io/hostname]": "serviceAnnotations",
    "spec.ingress.enabled": "ingresses",
    "spec.ingress.annotations[nginx.ingress.kubernetes.io/configuration-snippet]": "ingressAnnotations",
    "spec.networkPolicy.extraEgress": "extraEgress",
    "spec.serviceAccount.name": "serviceAccountNames",
    "spec.serviceAccount.annotations[eks.amazonaws.com/role-arn]": "serviceAccountAnnotations",
    "spec.sidecars[shell].securityContext.privileged": "privileges",
    "spec.sidecars[shell].ports.hostPort": "privileges",
    "spec.extraVolumes[host]": "volumeTypes",
    "spec.extraVolumes[tok].projected.sources.serviceAccountToken": "serviceAccountTokens",
    "spec.podLabels[azure.workload.identity/use]": "podLabels",
    "spec.priorityClassName": "priorityClassNames",
}
KINDS = "deployment,service,ingress,serviceaccount,networkpolicy,configmap,secret,poddisruptionbudget"


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The operator's policy as a file."""
    file = tmp_path_factory.mktemp("policy") / "policy.yaml"
    file.write_text(yaml.safe_dump(POLICY))
    return file


@pytest.fixture(scope="module")
def running(control_plane: Cluster, policy: Path) -> Iterator[OperatorProcess]:
    """The operator, with that policy."""
    install_definition(control_plane)
    with operator(control_plane.kubeconfig, more=[f"--policy={policy}"]) as process:
        yield process


@pytest.fixture
def here(control_plane: Cluster, namespace: str, running: OperatorProcess) -> Namespace:
    """A fresh namespace, served by the operator."""
    return Namespace(control_plane, namespace)


def test_each_field_is_refused_with_its_setting_and_nothing_is_created(here: Namespace) -> None:
    here.apply(agent(**DEPUTY))

    message = here.await_condition("Ready", "False", "PolicyRefused")["message"]

    said = message.partition("nothing was changed: ")[2].split("; ")
    assert {each.partition(": ")[0]: each.rpartition(".")[2].rstrip(")") for each in said} == REFUSED
    assert here.condition("Degraded")["message"] == message
    assert here.condition("Progressing")["status"] == "False"
    assert _versions(here) == {}
    events = eventually(
        lambda: [each for each in here.list("events") if each["reason"] == "PolicyRefused"], "an Event about it"
    )
    assert events[0]["type"] == "Warning"


def test_what_the_policy_lists_is_applied(here: Namespace) -> None:
    here.apply(agent(service={"type": "LoadBalancer", "annotations": {"example.com/x": "y"}}, podLabels={"team": "a"}))

    here.await_condition("Ready", "False", "RollingOut")
    assert here.get("service")["spec"]["type"] == "LoadBalancer"


def test_a_refused_change_leaves_the_objects_unchanged_until_it_is_undone(here: Namespace) -> None:
    here.apply(agent(service={"port": 8080}))
    here.await_condition("Ready", "False", "RollingOut")
    here.await_rollout()
    before = _versions(here)

    here.apply(agent(service={"port": 9090}, ingress={"enabled": True}, podLabels={"team": "b"}))

    here.await_condition("Degraded", "True", "PolicyRefused")
    assert _versions(here) == before
    assert here.find("ingress") is None
    assert (here.find("agentdeployment") or {})["status"]["replicas"] == 1
    here.apply(agent(service={"port": 9090}, podLabels={"team": "b"}))
    eventually(lambda: here.get("service")["spec"]["ports"][0]["port"] == 9090, "the rest of the change")


def test_a_refused_agent_is_deleted_with_its_objects(here: Namespace) -> None:
    here.apply(agent())
    here.await_condition("Ready", "False", "RollingOut")
    here.apply(agent(ingress={"enabled": True}))
    here.await_condition("Degraded", "True", "PolicyRefused")

    here.kubectl("delete", "agentdeployment", "hello", "--timeout=60s")

    eventually(lambda: here.find("deployment") is None, "its Deployment is gone")


def test_the_tools_report_what_the_policy_refuses(here: Namespace, policy: Path, tmp_path: Path) -> None:
    here.apply(agent(ingress={"enabled": True}))
    here.await_condition("Ready", "False", "PolicyRefused")

    doctor = tool(here, "doctor", "hello")
    diff = tool(here, "diff", "hello")
    file = tmp_path / "agent.yaml"
    file.write_text(yaml.safe_dump(agent(ingress={"enabled": True})))
    validate = subprocess.run(
        [COMMAND, "validate", "-f", str(file), f"--policy={policy}"], capture_output=True, text=True, check=False
    )

    for done in (doctor, diff, validate):
        assert (
            "spec.ingress.enabled: an Ingress is not allowed by the operator's policy (policies.allow.ingresses)"
            in ((done.stdout + done.stderr).replace("\n", " "))
        )
    assert (doctor.returncode, diff.returncode, validate.returncode) == (1, 2, 2)


@pytest.mark.parametrize("text", ["ingress: true", "{"])
def test_an_operator_does_not_start_with_a_policy_that_it_cannot_read(tmp_path: Path, text: str) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(text)

    done = subprocess.run([COMMAND, "run", f"--policy={file}"], capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 2
    assert f"The policy {file}" in done.stderr
    assert "Traceback" not in done.stderr


def _versions(here: Namespace) -> dict[str, tuple[str, int]]:
    """Return the part of each object that changes only with its spec or metadata."""
    items = json.loads(here.kubectl("get", KINDS, "--selector=app.kubernetes.io/instance=hello", "-ojson"))["items"]
    return {
        each["metadata"]["uid"]: (json.dumps(each.get("spec", each.get("data"))), each["metadata"].get("generation", 0))
        for each in items
    }
