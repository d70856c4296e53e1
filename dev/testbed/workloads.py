"""Deployments and Services of the test bed, within the restricted Pod Security Standard."""

import json
from typing import Any

from testbed.cluster import Cluster
from testbed.podspec import RESOURCES

READY_SECONDS = 180
USER = 10001
_CLUSTER_KINDS = {"Namespace", "ClusterRole", "ClusterRoleBinding"}


def namespace(name: str) -> dict[str, Any]:
    """Return a namespace that admits only pods of the restricted standard."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def deployment(
    name: str,
    container: dict[str, Any],
    *,
    volumes: list[dict[str, Any]],
    annotations: dict[str, str] | None = None,
    service_account: str = "default",
) -> dict[str, Any]:
    """Return a Deployment with one pod of `container`; a change of `annotations` replaces the pod."""
    labels = {"app": name}
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    pod = {
        "serviceAccountName": service_account,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [{"name": name, "securityContext": security, "resources": RESOURCES} | container],
        "volumes": volumes,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels, "annotations": annotations or {}}, "spec": pod},
        },
    }


def service(name: str, port: int, target: int) -> dict[str, Any]:
    """Return the Service `name`, whose `port` forwards to the port `target` of the pods of the Deployment `name`."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": port, "targetPort": target}]},
    }


def apply(cluster: Cluster, place: str, objects: list[dict[str, Any]]) -> None:
    """Apply the objects; those of a namespaced kind without a namespace go to `place`."""
    documents = {"apiVersion": "v1", "kind": "List", "items": [_placed(place, each) for each in objects]}
    cluster.kubectl("apply", "-f-", stdin=json.dumps(documents))


def _placed(place: str, document: dict[str, Any]) -> dict[str, Any]:
    if document["kind"] in _CLUSTER_KINDS:
        return document
    return document | {"metadata": {"namespace": place} | document["metadata"]}


def await_ready(cluster: Cluster, place: str, name: str) -> None:
    """Wait until the Deployment's pods are ready. Raises TestbedError when they are not, after READY_SECONDS."""
    cluster.kubectl("rollout", "status", "-n", place, f"deployment/{name}", f"--timeout={READY_SECONDS}s")
