"""The plain manifests equal the chart: the install, and each overlay with the corresponding values."""

import json
from pathlib import Path
from typing import Any

import pytest

from lint import rendered
from support.manifests import documents
from testbed.cluster import Cluster

CHART = rendered.CHARTS / "agent-operator"
NAMESPACE = "portside-system"
MONITORING = ("serviceMonitor", "prometheusRule", "dashboards")
# The namespace and the values of the release that each folder of manifests equals.
EQUALS: dict[str, tuple[str, dict[str, Any]]] = {
    "install": (NAMESPACE, {}),
    "overlays/monitoring": (NAMESPACE, {"monitoring": {each: {"enabled": True} for each in MONITORING}}),
    "overlays/one-namespace": (NAMESPACE, {"watchNamespaces": ["agents"]}),
    "overlays/policies": (NAMESPACE, {"policies": {"enabled": True}}),
    "overlays/side-by-side": (
        "portside-blue",
        {"selector": "portside.dev/operator=blue", "crds": {"install": False}, "rbac": {"aggregate": False}},
    ),
    "overlays/single": (NAMESPACE, {"replicaCount": 1}),
}
# What only a Helm release has, or only a folder.
OF_HELM = {"labels": ("helm.sh/chart", "app.kubernetes.io/managed-by"), "annotations": ("helm.sh/resource-policy",)}


def test_every_overlay_is_in_the_table() -> None:
    overlays = {f"overlays/{each.name}" for each in (rendered.MANIFESTS / "overlays").iterdir()}
    assert overlays == EQUALS.keys() - {"install"}


@pytest.mark.parametrize("folder", EQUALS)
def test_a_folder_of_manifests_is_the_chart_with_values(control_plane: Cluster, tmp_path: Path, folder: str) -> None:
    namespace, values = EQUALS[folder]
    file = tmp_path / "values.yaml"
    file.write_text(json.dumps(values))
    release = control_plane.helm("template", CHART.name, str(CHART), "--namespace", namespace, "--values", str(file))
    plain = _by_name(rendered.kustomize(rendered.MANIFESTS / folder))

    [made] = [key for key in plain if key[0] == "Namespace"]
    assert made == ("Namespace", None, namespace), "the folder makes its namespace, which a release cannot"
    assert plain.pop(made)["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    wanted = _by_name(release)
    assert plain.keys() == wanted.keys()
    for key, document in wanted.items():
        assert plain[key] == document, key


def _by_name(text: str) -> dict[tuple[str, str | None, str], dict[str, Any]]:
    """Return the objects by kind, namespace and name, without what only one of the two ways of installing has."""
    found = {}
    for document in documents(text):
        if document:
            metadata = document["metadata"]
            for part, keys in OF_HELM.items():
                metadata[part] = {k: v for k, v in (metadata.get(part) or {}).items() if k not in keys}
            found[document["kind"], metadata.get("namespace"), metadata["name"]] = document
    return found
