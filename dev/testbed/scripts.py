"""Our own programs of one Python file each, as Services of the cluster."""

import hashlib
from pathlib import Path
from typing import Any

from testbed import images, workloads
from testbed.cluster import Cluster
from testbed.podspec import BUSY_RESOURCES


def start(cluster: Cluster, namespace: str, name: str, script: Path, port: int, *arguments: str) -> str:
    """Run the script with the Python of the service's image, and wait until it listens on `port`.

    Return its URL in the cluster.
    """
    workloads.apply(cluster, namespace, objects(name, script, port, *arguments))
    workloads.await_ready(cluster, namespace, name)
    return url(namespace, name)


def url(namespace: str, name: str) -> str:
    """Return the URL at which pods reach the Service."""
    return f"http://{name}.{namespace}.svc"


def objects(name: str, script: Path, port: int, *arguments: str) -> list[dict[str, Any]]:
    """Return the ConfigMap with the script, the Deployment that runs it, and its Service."""
    code = script.read_text()
    container = {
        "image": images.reference("service"),
        "command": ["python", f"/script/{script.name}", *arguments],
        "ports": [{"containerPort": port}],
        "resources": BUSY_RESOURCES,
        "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
        "volumeMounts": [{"name": "script", "mountPath": "/script"}],
    }
    # A pod does not restart on its own when the script in its ConfigMap changes.
    annotations = {"portside.dev/script": hashlib.sha256(code.encode()).hexdigest()}
    volumes = [{"name": "script", "configMap": {"name": name}}]
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {script.name: code}},
        workloads.deployment(name, container, volumes=volumes, annotations=annotations),
        workloads.service(name, 80, port),
    ]
