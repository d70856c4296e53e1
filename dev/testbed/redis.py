"""A Redis in the cluster: the Valkey of the service's image, as a separate server."""

from typing import Any

from testbed import images, workloads
from testbed.cluster import Cluster

NAME = "redis"
PORT = 6379
# The `spec.redis` of an agent in the same namespace.
SHARED = {"url": f"redis://{NAME}:{PORT}/0"}
# Clients may also connect without user and password.
USER, PASSWORD = "agent", "not-a-real-password"

_START = """
import os, sys
from agent_service.state.valkey.process import find_program
program = find_program()
os.execv(program, [program, *sys.argv[1:]])
"""
_ARGUMENTS = (
    *("--bind", "0.0.0.0", "--protected-mode", "no"),  # noqa: S104  it is for a pod
    *("--dir", "/data", "--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction"),
    *("--user", USER, "on", f">{PASSWORD}", "~*", "&*", "+@all"),
)


def put_redis(cluster: Cluster, namespace: str) -> None:
    """Start a Redis in the namespace, and wait until it is ready."""
    workloads.apply(cluster, namespace, objects())
    workloads.await_ready(cluster, namespace, NAME)


def objects() -> list[dict[str, Any]]:
    """Return the Deployment and its Service. The data survives a restart of the container, but not of the pod."""
    container = {
        "image": images.reference("service"),
        "command": ["python", "-c", _START, *_ARGUMENTS],
        "ports": [{"containerPort": PORT}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    return [
        workloads.deployment(NAME, container, volumes=[{"name": "data", "emptyDir": {}}]),
        workloads.service(NAME, PORT, PORT),
    ]
