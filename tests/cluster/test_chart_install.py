"""Releases of both charts at a real API server: install, what the notes tell to do next, upgrade, removal."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from testbed import binaries, paths
from testbed.cluster import Cluster

OPERATOR_CHART = str(paths.REPOSITORY / "helm" / "agent-operator")
AGENT_CHART = str(paths.REPOSITORY / "helm" / "agent")
DEFINITION = "crd/agentdeployments.portside.dev"
HELM_ANNOTATIONS = ("meta.helm.sh/release-name", "meta.helm.sh/release-namespace", "helm.sh/resource-policy")
Helm = Callable[..., str]


@pytest.fixture
def operator_release(helm: Helm, control_plane: Cluster, namespace: str) -> Iterator[str]:
    """The operator's chart, installed for the test's namespace alone; gives the notes."""
    _refuse_to_take_from_another_release(control_plane)
    # Earlier tests may have applied the definition with kubectl.
    yield helm(*_install_operator(namespace), "--take-ownership")
    helm("uninstall", "agent-operator", "-n", namespace, "--ignore-not-found")
    control_plane.kubectl("annotate", DEFINITION, *(f"{each}-" for each in HELM_ANNOTATIONS))
    control_plane.kubectl("label", DEFINITION, "app.kubernetes.io/managed-by-")


def test_the_notes_of_the_operator_make_a_first_agent(
    control_plane: Cluster, namespace: str, operator_release: str
) -> None:
    commands = [line for line in operator_release.splitlines() if line.startswith("    ")]
    first = next(index for index, line in enumerate(commands) if "echo" in line)
    _run_as_printed(control_plane, "\n".join(commands[first : first + 2]))
    agent = control_plane.get("agentdeployment", "hello-agent", "-n", namespace)
    assert agent["spec"]["agent"]["provider"] == "echo"
    assert "FIELDS:" in _run_as_printed(control_plane, commands[-1])


def test_agents_outlive_the_operators_release_and_it_can_be_installed_again(
    helm: Helm, control_plane: Cluster, namespace: str, operator_release: str
) -> None:
    agent = (paths.REPOSITORY / "manifests" / "samples" / "echo-agent.yaml").read_text()
    control_plane.kubectl("apply", "-n", namespace, "-f-", stdin=agent)
    helm("uninstall", "agent-operator", "-n", namespace)
    assert control_plane.kubectl("get", "agentdeployments", "-n", namespace, "-oname").strip().endswith("/hello-agent")
    assert control_plane.kubectl("get", "deployments", "-n", namespace, "-oname") == ""
    helm(*_install_operator(namespace))
    assert control_plane.kubectl("get", "deployments", "-n", namespace, "-oname").strip().endswith("/agent-operator")


def test_an_upgrade_of_an_agents_release_changes_its_pods_and_removal_leaves_nothing(
    helm: Helm, control_plane: Cluster, namespace: str
) -> None:
    values: dict[str, Any] = {"agent": {"provider": "echo"}, "apiKey": {"value": "first-key"}, "replicas": 2}
    notes = helm("install", "my-agent", AGENT_CHART, "-n", namespace, "-f", "-", stdin=json.dumps(values))
    assert "first-key" not in notes
    before = control_plane.get("deployment", "my-agent", "-n", namespace)["spec"]
    assert before["replicas"] == 2

    values |= {"apiKey": {"value": "second-key"}, "autoscaling": {"enabled": True, "minReplicas": 1}}
    helm("upgrade", "my-agent", AGENT_CHART, "-n", namespace, "-f", "-", stdin=json.dumps(values))
    after = control_plane.get("deployment", "my-agent", "-n", namespace)["spec"]
    assert after["selector"] == before["selector"]
    assert after["template"]["metadata"]["annotations"] != before["template"]["metadata"]["annotations"]
    assert control_plane.get("hpa", "my-agent", "-n", namespace)["spec"]["minReplicas"] == 1

    helm("uninstall", "my-agent", "-n", namespace)
    kinds = "deployments,services,hpa,secrets,configmaps"
    selector = "app.kubernetes.io/instance=my-agent"
    assert control_plane.kubectl("get", kinds, "-n", namespace, "-l", selector, "-oname") == ""


def _install_operator(namespace: str) -> list[str]:
    return ["install", "agent-operator", OPERATOR_CHART, "-n", namespace, "--set", f"watchNamespaces={{{namespace}}}"]


def _refuse_to_take_from_another_release(cluster: Cluster) -> None:
    text = cluster.kubectl("get", DEFINITION, "-ojson", "--ignore-not-found")
    annotations = json.loads(text)["metadata"].get("annotations", {}) if text.strip() else {}
    if owner := annotations.get(HELM_ANNOTATIONS[0]):
        pytest.skip(f"this cluster's definition belongs to the Helm release {owner}")


def _run_as_printed(cluster: Cluster, commands: str) -> str:
    """Run lines of the notes in a shell, as a user would paste them."""
    programs = binaries.provide("kubectl")["kubectl"].parent
    environment = cluster.environment | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{commands}\n{done.stderr}"
    return done.stdout
