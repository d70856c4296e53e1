"""The test bed's in-process reads return what kubectl returns, and leave to kubectl what they do not support."""

import json
from typing import Any

import pytest

from testbed.cluster import Cluster
from testbed.errors import TestbedError

CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "charts", "labels": {"deck": "upper"}}}


@pytest.fixture
def place(control_plane: Cluster, namespace: str) -> str:
    """A namespace with a ConfigMap."""
    control_plane.kubectl("create", "-n", namespace, "-f-", stdin=json.dumps(CONFIG))
    return namespace


@pytest.mark.parametrize(
    "arguments",
    [
        ("configmap", "charts"),
        ("cm/charts",),
        ("configmaps", "-l", "deck=upper"),
        ("configmaps", "--selector=deck=lower"),
        ("configmap", "--field-selector=metadata.name=charts"),
        ("configmap", "nothing", "--ignore-not-found"),
        ("configmaps,serviceaccounts,deployments",),
        ("configmaps,services", "-l", "deck=upper"),
        ("hpa",),
        ("horizontalpodautoscaler",),
        ("deployments.apps",),
        ("events",),
        ("namespace", "default"),
        ("clusterrole", "view"),
    ],
    ids=" ".join,
)
def test_a_read_returns_what_kubectl_returns(
    arguments: tuple[str, ...], control_plane: Cluster, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = control_plane.kubectl("get", *arguments, "-n", place, "-ojson")
    by_kubectl: Any = json.loads(text) if text else None
    monkeypatch.setattr(Cluster, "kubectl", lambda *_, **__: pytest.fail("kubectl was asked"))
    found = control_plane.find(*arguments, "-n", place)
    if found and "items" in found:
        assert found["items"] == by_kubectl["items"]
    else:
        assert found == by_kubectl


def test_kubectl_reports_missing_objects_and_reads_what_the_test_bed_cannot(control_plane: Cluster, place: str) -> None:
    with pytest.raises(TestbedError, match='configmaps "nothing" not found'):
        control_plane.get("configmap", "nothing", "-n", place)
    with pytest.raises(TestbedError, match="have a resource type"):
        control_plane.get("ships", "-n", place)
    everywhere = control_plane.get("configmaps", "--all-namespaces")["items"]
    assert place in {each["metadata"]["namespace"] for each in everywhere}


def test_a_kind_is_found_while_it_is_served(control_plane: Cluster, place: str) -> None:
    names = {"plural": "ferries", "singular": "ferry", "kind": "Ferry", "listKind": "FerryList"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "ferries.test.portside.dev"},
        "spec": {"group": "test.portside.dev", "names": names, "scope": "Namespaced", "versions": [version]},
    }
    control_plane.get("configmaps", "-n", place)  # by now the served kinds are known
    control_plane.kubectl("apply", "-f-", stdin=json.dumps(definition))
    try:
        control_plane.await_definition("ferries.test.portside.dev")
        assert control_plane.get("ferries", "-n", place)["items"] == []
    finally:
        control_plane.kubectl("delete", "crd", "ferries.test.portside.dev", "--timeout=60s")
    with pytest.raises(TestbedError):
        control_plane.get("ferry", "one", "-n", place)
