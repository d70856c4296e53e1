"""The plain manifests: generated from the chart, checked for staleness, and a base for overlays."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.manifests import documents
from testbed import paths
from testbed.cluster import Cluster

MANIFESTS = paths.REPOSITORY / "manifests"
SAMPLES = MANIFESTS / "samples"
AGENT_OPERATOR = Path(sys.executable).parent / "agent-operator"


@pytest.fixture
def checkout(tmp_path: Path, control_plane: Cluster) -> Path:
    """A copy of the charts and manifests that a test may change; helm has been installed by then."""
    for folder in ("helm", "manifests"):
        shutil.copytree(paths.REPOSITORY / folder, tmp_path / folder)
    return tmp_path


def test_stale_manifests_are_reported_and_regenerated(checkout: Path) -> None:
    values = checkout / "helm" / "agent-operator" / "values.yaml"
    values.write_text(values.read_text().replace('level: "INFO"', 'level: "DEBUG"'))

    stale = _generate(checkout, "--check")
    assert stale.returncode == 1
    assert "manifests/install/operator.yaml" in stale.stdout
    assert "--log-level=INFO" in _operator(checkout)

    assert _generate(checkout).returncode == 0
    assert "--log-level=DEBUG" in _operator(checkout)
    assert _generate(checkout, "--check").returncode == 0


def test_a_chart_that_does_not_render_is_reported_with_helms_error(checkout: Path) -> None:
    values = checkout / "helm" / "agent-operator" / "values.yaml"
    values.write_text(values.read_text().replace('level: "INFO"', 'level: "LOUD"'))
    failed = _generate(checkout)
    assert failed.returncode == 1
    assert "/logging/level" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_an_overlay_can_move_the_operator_to_another_namespace(checkout: Path, control_plane: Cluster) -> None:
    overlay = checkout / "overlay"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text("resources: [../manifests/install]\nnamespace: docks\n")
    objects = documents(control_plane.kubectl("kustomize", str(overlay)))
    named = {each["kind"]: each["metadata"] for each in objects}
    assert named["Namespace"]["name"] == named["Deployment"]["namespace"] == "docks"
    [binding] = [each for each in objects if each["kind"] == "ClusterRoleBinding"]
    assert [subject["namespace"] for subject in binding["subjects"]] == ["docks"]


def test_the_install_has_no_traces_of_helm() -> None:
    for document in _install():
        assert "helm.sh/chart" not in document["metadata"]["labels"]
        assert "annotations" not in document["metadata"]
        assert document["metadata"]["labels"].get("app.kubernetes.io/managed-by") != "Helm"


def test_the_samples_render_without_a_cluster() -> None:
    done = subprocess.run(
        [AGENT_OPERATOR, "render", "-f", SAMPLES], capture_output=True, text=True, timeout=60, check=True
    )
    made = {(each["metadata"]["name"], each["kind"]): each for each in documents(done.stdout)}
    scaling = made["hello-agent", "HorizontalPodAutoscaler"]["spec"]
    assert (scaling["minReplicas"], scaling["maxReplicas"]) == (1, 3)
    assert ("hello-agent", "Secret") not in made
    [secrets] = [each for each in _volumes(made["support-agent", "Deployment"]) if each["name"] == "secrets"]
    # The Secret that the sample's own comment describes how to create.
    command = next(line for line in (SAMPLES / "anthropic-agent.yaml").read_text().splitlines() if "kubectl" in line)
    [source] = secrets["projected"]["sources"]
    assert f"create secret generic {source['secret']['name']} " in command
    assert f"--from-literal={source['secret']['items'][0]['key']}=" in command


def _generate(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(paths.REPOSITORY / "dev")}
    command = [sys.executable, "-m", "codegen", "install", "--root", str(checkout), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def _operator(checkout: Path) -> str:
    return (checkout / "manifests" / "install" / "operator.yaml").read_text()


def _install() -> list[dict[str, Any]]:
    texts = [(MANIFESTS / "install" / name).read_text() for name in ("agentdeployments.yaml", "operator.yaml")]
    return [document for text in texts for document in documents(text) if document["kind"] != "Namespace"]


def _volumes(deployment: dict[str, Any]) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = deployment["spec"]["template"]["spec"]["volumes"]
    return volumes
