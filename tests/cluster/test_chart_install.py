"""Releases of both charts at a real API server: installation, the steps in the notes, upgrade, removal."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.eventually import eventually
from testbed import binaries, paths
from testbed.cluster import Cluster
from testbed.errors import TestbedError

OPERATOR_CHART = str(paths.REPOSITORY / "helm" / "agent-operator")
AGENT_CHART = str(paths.REPOSITORY / "helm" / "agent")
DEFINITION = "crd/agentdeployments.portside.dev"
DEFINITIONS = (DEFINITION, "crd/agentclasses.portside.dev")
HELM_ANNOTATIONS = ("meta.helm.sh/release-name", "meta.helm.sh/release-namespace", "helm.sh/resource-policy")
Helm = Callable[..., str]
RELEASES = sorted(path.name for path in (paths.REPOSITORY / "releases").iterdir() if path.is_dir())


@pytest.fixture
def operator_release(helm: Helm, control_plane: Cluster, namespace: str) -> Iterator[str]:
    """Install the operator's chart for the test's namespace alone, and yield its notes."""
    _refuse_to_take_from_another_release(control_plane)
    # Earlier tests may have applied the definition with kubectl.
    yield helm(*_install_operator(namespace), "--take-ownership")
    helm("uninstall", "agent-operator", "-n", namespace, "--ignore-not-found")
    control_plane.kubectl("annotate", *DEFINITIONS, *(f"{each}-" for each in HELM_ANNOTATIONS))
    control_plane.kubectl("label", *DEFINITIONS, "app.kubernetes.io/managed-by-")


def test_the_commands_in_the_operators_notes_create_a_first_agent(
    control_plane: Cluster, namespace: str, operator_release: str
) -> None:
    commands = [line for line in operator_release.splitlines() if line.startswith("    ")]
    # The API server serves a definition, and then publishes its documentation, a moment after its creation.
    published = lambda: "FIELDS:" in control_plane.kubectl("explain", "agentdeployment.spec", check=False)  # noqa: E731
    eventually(published, "the definition is published")
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


def test_two_aliases_of_the_chart_in_an_umbrella_are_two_agents(
    helm: Helm, control_plane: Cluster, namespace: str, tmp_path: Path
) -> None:
    umbrella = _umbrella(tmp_path, "support", "sales")
    helm("install", "shop", umbrella, "-n", namespace)

    assert _agents(control_plane, namespace) == {
        "shop-sales": "answers by sales",
        "shop-support": "answers by support",
    }
    assert control_plane.get("networkpolicy", "shop-sales", "-n", namespace)["spec"]["podSelector"] == {
        "matchLabels": {"app.kubernetes.io/name": "portside-agent", "app.kubernetes.io/instance": "shop-sales"}
    }


def test_an_alias_that_has_the_name_of_its_release_does_not_repeat_it(
    helm: Helm, control_plane: Cluster, namespace: str, tmp_path: Path
) -> None:
    helm("install", "support", _umbrella(tmp_path, "support", "sales"), "-n", namespace)
    assert set(_agents(control_plane, namespace)) == {"support", "support-sales"}


@pytest.mark.parametrize("release", RELEASES)
def test_an_agent_under_an_alias_keeps_its_name_from_an_older_chart(
    helm: Helm, control_plane: Cluster, namespace: str, tmp_path: Path, release: str
) -> None:
    older = paths.REPOSITORY / "releases" / release / f"agent-{release}.tgz"
    helm("install", "shop", _umbrella(tmp_path / "older", "support", chart=older), "-n", namespace)
    newer = _umbrella(tmp_path / "newer", "support")
    with pytest.raises(TestbedError, match=r"keep it with support\.fullnameOverride=shop"):
        helm("upgrade", "shop", newer, "-n", namespace)

    helm("upgrade", "shop", newer, "-n", namespace, "--set", "support.fullnameOverride=shop")
    assert _agents(control_plane, namespace) == {"shop": "answers by support"}


def _umbrella(folder: Path, *aliases: str, chart: Path = Path(AGENT_CHART)) -> str:
    """Return a chart in `folder` that depends on the agent's chart once per alias."""
    (folder / "charts").mkdir(parents=True)
    if chart.is_dir():
        shutil.copytree(chart, folder / "charts" / "agent")
    else:
        shutil.copy(chart, folder / "charts")
    dependencies = [{"name": "agent", "alias": alias, "version": ">=0.0.0-0"} for alias in aliases]
    described = {"apiVersion": "v2", "name": "umbrella", "version": "0.1.0", "dependencies": dependencies}
    values = {alias: {"agent": {"provider": "echo", "systemPrompt": f"answers by {alias}"}} for alias in aliases}
    (folder / "Chart.yaml").write_text(json.dumps(described))
    (folder / "values.yaml").write_text(json.dumps(values))
    return str(folder)


def _agents(cluster: Cluster, namespace: str) -> dict[str, str]:
    """Return the system prompt of each agent by the name of its Deployment."""
    deployments = cluster.get("deployments", "-n", namespace)["items"]
    names = [each["metadata"]["name"] for each in deployments]
    return {name: cluster.get("configmap", name, "-n", namespace)["data"]["SYSTEM_PROMPT"] for name in names}


def _install_operator(namespace: str) -> list[str]:
    return ["install", "agent-operator", OPERATOR_CHART, "-n", namespace, "--set", f"watchNamespaces={{{namespace}}}"]


def _refuse_to_take_from_another_release(cluster: Cluster) -> None:
    text = cluster.kubectl("get", DEFINITION, "-ojson", "--ignore-not-found")
    annotations = json.loads(text)["metadata"].get("annotations", {}) if text.strip() else {}
    if owner := annotations.get(HELM_ANNOTATIONS[0]):
        pytest.skip(f"this cluster's definition belongs to the Helm release {owner}")


def _run_as_printed(cluster: Cluster, commands: str) -> str:
    """Run lines of the notes in a shell, as a user who pastes them."""
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
