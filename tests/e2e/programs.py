"""Programs of others in pods. The image has Python alone, so each is copied into its running pod, which waits."""

import json
import subprocess
from dataclasses import dataclass, field
from typing import Any

from e2e.agents import READY_SECONDS
from testbed import binaries, images
from testbed.cluster import Cluster
from testbed.errors import TestbedError
from testbed.podspec import RESOURCES

UPLOAD_SECONDS = 120
# Of a container that waits for its program: the command before the program's name and arguments.
WAITING = ("sh", "-c", 'until [ -e /data/whole ]; do sleep 0.2; done; exec "/data/$0" "$@"')
FILES = "/etc/program"


@dataclass(frozen=True)
class Program:
    """One of `testbed.binaries`, how it is started, where it says that it is ready, and what it may ask of the API.

    `files` are in FILES; `rules` are those of a ClusterRole. Its Service, of its name, has port 443 or 80.
    """

    name: str
    arguments: tuple[str, ...]
    port: int
    ready: str
    scheme: str = "HTTP"
    files: dict[str, str] = field(default_factory=dict)
    rules: tuple[dict[str, Any], ...] = ()


def start(cluster: Cluster, namespace: str, program: Program) -> None:
    """Run it in the namespace, and wait until it is ready. What it has outside of that `forget` takes away."""
    objects = {"apiVersion": "v1", "kind": "List", "items": _objects(namespace, program)}
    cluster.kubectl("apply", "-f-", stdin=json.dumps(objects))
    wait = ["wait", "-n", namespace, f"pod/{program.name}", f"--timeout={READY_SECONDS}s"]
    cluster.kubectl(*wait, "--for=jsonpath={.status.phase}=Running")
    upload(cluster, namespace, program.name, program.name)
    try:
        cluster.kubectl(*wait, "--for=condition=Ready")
    except TestbedError as error:
        raise TestbedError(f"{error}; {cluster.kubectl('logs', '-n', namespace, program.name, '--tail=20')}") from None


def forget(cluster: Cluster, namespace: str, program: Program) -> None:
    """Take away what it has outside of its namespace."""
    role = f"{program.name}-{namespace}"
    cluster.kubectl("delete", "clusterrolebinding,clusterrole", role, "--ignore-not-found")
    cluster.kubectl("delete", "clusterrolebinding", f"{role}-delegator", "--ignore-not-found")
    cluster.kubectl("delete", "rolebinding", role, "-n", "kube-system", "--ignore-not-found")


def upload(cluster: Cluster, namespace: str, target: str, name: str) -> None:
    """Give the program `name` to the pod `target` that waits for it."""
    kubectl = str(binaries.provide("kubectl")["kubectl"])
    store = f"cat > /data/{name} && chmod +x /data/{name} && touch /data/whole"
    command = [kubectl, "exec", "-i", "-n", namespace, target, "--", "sh", "-c", store]
    with binaries.provide(name)[name].open("rb") as program:
        subprocess.run(command, env=cluster.environment, stdin=program, timeout=UPLOAD_SECONDS, check=True)


def _objects(namespace: str, program: Program) -> list[dict[str, Any]]:
    name, rbac = program.name, "rbac.authorization.k8s.io"
    own, role = {"name": name, "namespace": namespace}, f"{name}-{namespace}"
    subjects = [{"kind": "ServiceAccount", "name": name, "namespace": namespace}]

    def bound(binding: str, kind: str, to: str, place: str | None = None) -> dict[str, Any]:
        return {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding" if place else "ClusterRoleBinding",
            "metadata": {"name": binding, **({"namespace": place} if place else {})},
            "roleRef": {"apiGroup": rbac, "kind": kind, "name": to},
            "subjects": subjects,
        }

    role_document = {
        "apiVersion": f"{rbac}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": role},
        "rules": list(program.rules),
    }
    # Who serves an API of its own asks the API server who its callers are, and what they may.
    serves_api = [
        bound(f"{role}-delegator", "ClusterRole", "system:auth-delegator"),
        bound(role, "Role", "extension-apiserver-authentication-reader", "kube-system"),
    ]
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": own, "data": program.files},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": own},
        role_document,
        bound(role, "ClusterRole", role),
        *(serves_api if program.scheme == "HTTPS" else []),
        _service(own, program),
        _pod(own, program),
    ]


def _service(own: dict[str, str], program: Program) -> dict[str, Any]:
    port = 443 if program.scheme == "HTTPS" else 80
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": own,
        "spec": {"selector": {"app": program.name}, "ports": [{"port": port, "targetPort": program.port}]},
    }


def _pod(own: dict[str, str], program: Program) -> dict[str, Any]:
    probe = {"path": program.ready, "port": program.port, "scheme": program.scheme}
    container = {
        "name": program.name,
        "image": images.reference("service"),
        "command": [*WAITING, program.name, *program.arguments],
        "ports": [{"containerPort": program.port}],
        "readinessProbe": {"httpGet": probe, "periodSeconds": 1},
        "resources": RESOURCES,
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "files", "mountPath": FILES}],
    }
    user = {"runAsNonRoot": True, "runAsUser": 10001, "fsGroup": 10001}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": own | {"labels": {"app": program.name}},
        "spec": {
            "serviceAccountName": program.name,
            "securityContext": {**user, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
            "volumes": [
                {"name": "data", "emptyDir": {}},
                {"name": "files", "configMap": {"name": program.name}},
            ],
        },
    }
