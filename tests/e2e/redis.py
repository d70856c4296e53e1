"""A Redis for the agents of a namespace."""

import json

from e2e.agents import READY_SECONDS
from testbed import images
from testbed.cluster import Cluster
from testbed.podspec import RESOURCES

NAME = "redis"
# As `spec.redis` of an agent that shares it.
SHARED = {"url": f"redis://{NAME}:6379/0"}


def put_redis(cluster: Cluster, namespace: str) -> None:
    """Start one there, and wait until it is ready."""
    cluster.kubectl("apply", "-n", namespace, "-f-", stdin=json.dumps(_objects()))
    cluster.kubectl("rollout", "status", "-n", namespace, f"deployment/{NAME}", f"--timeout={READY_SECONDS}s")


def _objects() -> dict[str, object]:
    """The Valkey that the service's image carries, as a server of its own, within the restricted standard."""
    labels = {"app": NAME}
    start = """
import os
from agent_service.state.valkey import find_program
program = find_program()
os.execv(program, [program, "--bind", "0.0.0.0", "--protected-mode", "no", "--maxmemory-policy", "noeviction"])
"""
    container = {
        "name": NAME,
        "image": images.reference("service"),
        "command": ["python", "-c", start],
        "ports": [{"containerPort": 6379}],
        "resources": RESOURCES,
        "readinessProbe": {"tcpSocket": {"port": 6379}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "workingDir": "/tmp",  # noqa: S108  a folder of the container
    }
    security = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container], "securityContext": security}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME},
        "spec": {"selector": labels, "ports": [{"port": 6379}]},
    }
    return {"apiVersion": "v1", "kind": "List", "items": [deployment, service]}
