"""Programs of ours, each of one Python file, as Services of the cluster."""

import json
from pathlib import Path
from typing import Any

from testbed import images
from testbed.cluster import Cluster
from testbed.podspec import BUSY_RESOURCES

_READY = "--timeout=180s"


def start(cluster: Cluster, namespace: str, name: str, script: Path, port: int, *arguments: str) -> str:
    """Run it by the Python of the service's image, wait until it listens on `port`, and give its URL in the cluster."""
    objects = {"apiVersion": "v1", "kind": "List", "items": _objects(name, script, port, arguments)}
    cluster.kubectl("apply", "-n", namespace, "-f-", stdin=json.dumps(objects))
    cluster.kubectl("rollout", "status", "-n", namespace, f"deployment/{name}", _READY)
    return f"http://{name}.{namespace}.svc"


def _objects(name: str, script: Path, port: int, arguments: tuple[str, ...]) -> list[dict[str, Any]]:
    metadata, labels = {"name": name}, {"app": name}
    container = {
        "name": name,
        "image": images.reference("service"),
        "command": ["python", f"/script/{script.name}", *arguments],
        "ports": [{"containerPort": port}],
        "resources": BUSY_RESOURCES,
        "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "script", "mountPath": "/script"}],
    }
    pod = {
        "containers": [container],
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "script", "configMap": metadata}],
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": port}]},
    }
    code = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {script.name: script.read_text()}}
    return [code, deployment, service]
