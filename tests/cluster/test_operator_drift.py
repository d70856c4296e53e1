"""What others put into an agent's objects goes, whoever they are and however they write; what is allowed stays."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster.operator_bed import Namespace, agent, eventually, install_definition, operator, service_account
from testbed.cluster import Cluster

SIDECAR = {"name": "intruder", "image": "intruder:1"}
POD = ("spec", "template", "spec")


@pytest.fixture(scope="module")
def rights(control_plane: Cluster) -> Iterator[Path]:
    """A kubeconfig with the documented rights on the whole cluster."""
    install_definition(control_plane)
    control_plane.kubectl("create", "namespace", "portside-drift-test")
    try:
        with service_account(control_plane, "portside-drift-test", cluster_wide=True) as kubeconfig:
            yield kubeconfig
    finally:
        control_plane.kubectl("delete", "namespace", "portside-drift-test", "--wait=false")


@pytest.fixture(scope="module")
def running(rights: Path) -> Iterator[None]:
    """The operator, on all namespaces."""
    with operator(rights):
        yield


@pytest.fixture
def here(control_plane: Cluster, namespace: str, running: None) -> Namespace:
    """A fresh namespace, watched by the operator, with an agent."""
    here = Namespace(control_plane, namespace)
    here.apply(agent(autoscaling={"enabled": True}))
    for kind in ("horizontalpodautoscaler", "networkpolicy", "poddisruptionbudget"):
        if kind != "poddisruptionbudget":
            here.get(kind)
    return here


def content(document: dict[str, Any]) -> dict[str, Any]:
    """The object without what the cluster and others may write."""
    return {key: value for key, value in document.items() if key not in {"metadata", "status"}}


def patch(here: Namespace, kind: str, change: Any, form: str = "strategic", *arguments: str) -> None:
    here.kubectl("patch", kind, "hello", f"--type={form}", "-p", json.dumps(change), *arguments)


def in_pod(**change: Any) -> dict[str, Any]:
    return {"spec": {"template": {"spec": change}}}


def add(path: str, value: Any) -> list[dict[str, Any]]:
    return [{"op": "add", "path": path, "value": value}]


AGENT = "/spec/template/spec/containers/0"
CHANGES: dict[str, tuple[str, Any, str]] = {
    "container": ("deployment", in_pod(containers=[SIDECAR]), "strategic"),
    "container by JSON patch": ("deployment", add("/spec/template/spec/containers/-", SIDECAR), "json"),
    "init container": ("deployment", in_pod(initContainers=[SIDECAR]), "strategic"),
    "variable": (
        "deployment",
        in_pod(containers=[{"name": "agent", "env": [{"name": "A", "value": "b"}]}]),
        "strategic",
    ),
    "command": ("deployment", add(f"{AGENT}/command", ["sleep", "1000"]), "json"),
    "envFrom": ("deployment", add(f"{AGENT}/envFrom/-", {"secretRef": {"name": "s", "optional": True}}), "json"),
    "volume": ("deployment", in_pod(volumes=[{"name": "more", "emptyDir": {}}]), "strategic"),
    "mount": ("deployment", add(f"{AGENT}/volumeMounts/-", {"name": "tmp", "mountPath": "/more"}), "json"),
    "port": ("deployment", add(f"{AGENT}/ports/-", {"containerPort": 22, "name": "ssh"}), "json"),
    "host network": ("deployment", in_pod(hostNetwork=True), "merge"),
    "node": ("deployment", in_pod(nodeSelector={"disk": "mine"}), "merge"),
    "tolerations": ("deployment", in_pod(tolerations=[{"operator": "Exists"}]), "merge"),
    "pause": ("deployment", {"spec": {"paused": True}}, "merge"),
    "pod annotation": ("deployment", {"spec": {"template": {"metadata": {"annotations": {"a.b/c": "d"}}}}}, "merge"),
    "pod label": ("deployment", {"spec": {"template": {"metadata": {"labels": {"team": "red"}}}}}, "merge"),
    "setting": ("configmap", {"data": {"SYSTEM_PROMPT": "Be rude."}}, "merge"),
    "binary setting": ("configmap", {"binaryData": {"SYSTEM_PROMPT": "QmUgcnVkZS4="}}, "merge"),
    "service port": ("service", add("/spec/ports/-", {"name": "more", "port": 22}), "json"),
    "external address": ("service", {"spec": {"externalIPs": ["192.0.2.1"]}}, "merge"),
    "scaling": (
        "horizontalpodautoscaler",
        {"spec": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 1}}}},
        "merge",
    ),
    "network": ("networkpolicy", add("/spec/egress/-", {}), "json"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_others_add_goes(here: Namespace, name: str) -> None:
    kind, change, form = CHANGES[name]
    before = content(here.get(kind))

    patch(here, kind, change, form)

    eventually(lambda: content(here.get(kind)) == before, f"{kind} is as it was; now: {content(here.get(kind))}")
