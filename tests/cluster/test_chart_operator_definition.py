"""The definition in the operator's chart: upgraded with every release, and downgraded only on request."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.eventually import eventually
from testbed import paths
from testbed.cluster import Cluster
from testbed.errors import TestbedError

CHART = paths.REPOSITORY / "helm" / "agent-operator"
FILE = str(CHART / "files" / "agentdeployments.yaml")
FILE_OF_CLASSES = str(CHART / "files" / "agentclasses.yaml")
NAME = "agent-operator"
DEFINITION = "crd/agentdeployments.portside.dev"
OF_CLASSES = "crd/agentclasses.portside.dev"
NEWER = "99.0.0"
# An agent with a field that exists from that version on.
AGENT = {
    "apiVersion": "portside.dev/v1alpha1",
    "kind": "AgentDeployment",
    "metadata": {"name": "of-tomorrow"},
    "spec": {"agent": {"provider": "echo"}, "mooring": "north"},
}


@pytest.fixture
def _no_definition(control_plane: Cluster) -> Iterator[None]:
    """Start without a definition, and leave the present one behind, owned by no release."""
    if "meta.helm.sh/release-name" in control_plane.kubectl("get", DEFINITION, "-ojson", "--ignore-not-found"):
        pytest.skip("this cluster's definition belongs to a Helm release")
    remove = ["delete", DEFINITION, OF_CLASSES, "--ignore-not-found", "--timeout=60s"]
    control_plane.kubectl(*remove)
    yield
    control_plane.kubectl(*remove)
    control_plane.kubectl("apply", "--server-side", "-f", FILE, "-f", FILE_OF_CLASSES)
    for each in (DEFINITION, OF_CLASSES):
        control_plane.await_definition(each.removeprefix("crd/"))


@pytest.fixture
def newer_chart(tmp_path: Path) -> str:
    """Return the chart as a later version could be: with one more field of an agent."""
    chart = tmp_path / NAME
    shutil.copytree(CHART, chart)
    about = yaml.safe_load((chart / "Chart.yaml").read_text()) | {"version": NEWER, "appVersion": NEWER}
    (chart / "Chart.yaml").write_text(yaml.safe_dump(about))
    file = chart / "files" / "agentdeployments.yaml"
    definition = yaml.safe_load(file.read_text())
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["properties"]["mooring"] = {"type": "string"}
    file.write_text(yaml.safe_dump(definition))
    return str(chart)


@pytest.mark.usefixtures("_no_definition")
def test_an_upgrade_adds_new_fields_and_a_rollback_loses_no_agent(
    control_plane: Cluster, namespace: str, newer_chart: str
) -> None:
    _release(control_plane, namespace, str(CHART), "install")
    _release(control_plane, namespace, newer_chart)
    _apply(control_plane, namespace)

    control_plane.helm("rollback", NAME, "1", "-n", namespace)
    eventually(lambda: _spec(control_plane, namespace).get("mooring") is None, "the older definition")
    assert _spec(control_plane, namespace)["agent"]["provider"] == "echo"

    _release(control_plane, namespace, newer_chart)
    eventually(
        lambda: _spec(control_plane, namespace).get("mooring") == "north",
        "the field of an agent that was not written meanwhile",
    )


@pytest.mark.usefixtures("_no_definition")
def test_an_older_chart_is_refused_if_it_would_remove_fields(
    control_plane: Cluster, namespace: str, newer_chart: str
) -> None:
    _release(control_plane, namespace, newer_chart, "install")
    _apply(control_plane, namespace)

    with pytest.raises(TestbedError, match=rf"in this cluster is of version {NEWER}.*Set crds.install=false"):
        _release(control_plane, namespace, str(CHART))
    assert _version(control_plane, "deployment", NAME, "-n", namespace) == NEWER

    _release(control_plane, namespace, str(CHART), "upgrade", "--set=crds.install=false")
    assert _version(control_plane, "deployment", NAME, "-n", namespace) != NEWER
    assert _version(control_plane, DEFINITION) == NEWER
    assert _spec(control_plane, namespace)["mooring"] == "north"

    _release(control_plane, namespace, newer_chart, "upgrade", "--set=crds.install=true")
    assert _version(control_plane, "deployment", NAME, "-n", namespace) == NEWER


@pytest.mark.usefixtures("_no_definition")
def test_a_foreign_definition_is_not_taken_over(control_plane: Cluster, namespace: str) -> None:
    control_plane.kubectl("apply", "--server-side", "-f", FILE)
    before = control_plane.get(DEFINITION)["metadata"]
    with pytest.raises(TestbedError, match=r"invalid ownership metadata"):
        _release(control_plane, namespace, str(CHART), "install")
    assert control_plane.get(DEFINITION)["metadata"].get("annotations") == before.get("annotations")
    _release(control_plane, namespace, str(CHART), "install", "--set=crds.install=false")


def _release(cluster: Cluster, namespace: str, chart: str, verb: str = "upgrade", *arguments: str) -> None:
    rights = f"--set=watchNamespaces={{{namespace}}}"
    cluster.helm(verb, NAME, chart, "-n", namespace, rights, *arguments)


def _apply(cluster: Cluster, namespace: str) -> None:
    """Create the agent with its field: the API server accepts it a moment after the definition was written."""
    apply = ["apply", "-n", namespace, "--validate=strict", "-f", "-"]
    eventually(lambda: cluster.kubectl(*apply, stdin=json.dumps(AGENT), check=False) or None, "the newer definition")
    assert _spec(cluster, namespace)["mooring"] == "north"


def _spec(cluster: Cluster, namespace: str) -> dict[str, Any]:
    spec: dict[str, Any] = cluster.get("agentdeployment", "of-tomorrow", "-n", namespace)["spec"]
    return spec


def _version(cluster: Cluster, *resource: str) -> str:
    return str(cluster.get(*resource)["metadata"]["labels"]["app.kubernetes.io/version"])
