"""Third-party programs in the cluster, each from a single-file image that the test bed makes."""

import json
import time
from dataclasses import dataclass, field
from typing import Any

from testbed import program_image, workloads
from testbed.cluster import Cluster
from testbed.errors import TestbedError

FILES = "/etc/program"
READ = ("get", "list", "watch")
SERVED_SECONDS = 60
POLL_SECONDS = 0.3
_RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True)
class Program:
    """A program of `testbed.binaries`: how it starts, where it reports readiness, and its rights in the API.

    `files` are in FILES, and the program may write to /data; `rules` are those of a ClusterRole. Its Service has the
    program's name, and port 443 or 80. A program with an `api`, such as `v1beta1.metrics.k8s.io`, is the API server's
    backend for that API.
    """

    name: str
    arguments: tuple[str, ...]
    port: int
    ready: str
    api: str = ""
    files: dict[str, str] = field(default_factory=dict)
    rules: tuple[dict[str, Any], ...] = ()

    @property
    def scheme(self) -> str:
        """The scheme of the program: the API server connects to extension API servers only by HTTPS."""
        return "HTTPS" if self.api else "HTTP"

    @property
    def api_path(self) -> str:
        """The path at which the API server serves the program's API."""
        version, _, group = self.api.partition(".")
        return f"/apis/{group}/{version}"


def start(cluster: Cluster, namespace: str, program: Program) -> None:
    """Run the program in the namespace, and wait until it is ready. `forget` removes its objects outside it."""
    put(cluster, namespace, program)
    await_ready(cluster, namespace, program)


def put(cluster: Cluster, namespace: str, program: Program) -> None:
    """Apply all of the program's objects except its API, without waiting."""
    image = program_image.load(cluster, program.name)
    workloads.apply(cluster, namespace, _objects(namespace, program, image))


def await_ready(cluster: Cluster, namespace: str, program: Program) -> None:
    """Wait until the program is ready, then register its API, and wait until that is served.

    While a registered API is not served, namespaces are not deleted and discovery fails.
    """
    workloads.await_ready(cluster, namespace, program.name)
    if not program.api:
        return
    cluster.kubectl("apply", "-f-", stdin=json.dumps(_api_service(namespace, program)))
    deadline = time.monotonic() + SERVED_SECONDS
    while not cluster.kubectl("get", "--raw", program.api_path, check=False):
        if time.monotonic() > deadline:
            raise TestbedError(f"{program.api_path} is not served after {SERVED_SECONDS} s.")
        time.sleep(POLL_SECONDS)


def forget(cluster: Cluster, namespace: str, program: Program) -> None:
    """Remove the program's objects outside its namespace."""
    role = f"{program.name}-{namespace}"
    if program.api:
        cluster.kubectl("delete", "apiservice", program.api, "--ignore-not-found")
    cluster.kubectl("delete", "clusterrolebinding,clusterrole", role, "--ignore-not-found")
    cluster.kubectl("delete", "clusterrolebinding", f"{role}-delegator", "--ignore-not-found")
    cluster.kubectl("delete", "rolebinding", role, "-n", "kube-system", "--ignore-not-found")


def _objects(namespace: str, program: Program, image: str) -> list[dict[str, Any]]:
    name, own, role = program.name, {"name": program.name}, f"{program.name}-{namespace}"
    container = {
        "image": image,
        "args": list(program.arguments),
        "ports": [{"containerPort": program.port}],
        "readinessProbe": {
            "httpGet": {"path": program.ready, "port": program.port, "scheme": program.scheme},
            "periodSeconds": 1,
        },
        "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "files", "mountPath": FILES}],
    }
    volumes = [{"name": "data", "emptyDir": {}}, {"name": "files", "configMap": own}]
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": own, "data": program.files},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": own},
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": role},
            "rules": list(program.rules),
        },
        *_bindings(namespace, program, role),
        workloads.service(name, 443 if program.api else 80, program.port),
        workloads.deployment(name, container, volumes=volumes, service_account=name),
    ]


def _bindings(namespace: str, program: Program, role: str) -> list[dict[str, Any]]:
    subjects = [{"kind": "ServiceAccount", "name": program.name, "namespace": namespace}]

    def bound(binding: str, kind: str, to: str, place: str | None = None) -> dict[str, Any]:
        return {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "RoleBinding" if place else "ClusterRoleBinding",
            "metadata": {"name": binding, **({"namespace": place} if place else {})},
            "roleRef": {"apiGroup": _RBAC, "kind": kind, "name": to},
            "subjects": subjects,
        }

    # An extension API server uses the API server to authenticate and authorize its callers.
    serves_api = [
        bound(f"{role}-delegator", "ClusterRole", "system:auth-delegator"),
        bound(role, "Role", "extension-apiserver-authentication-reader", "kube-system"),
    ]
    return [bound(role, "ClusterRole", role), *(serves_api if program.api else [])]


def _api_service(namespace: str, program: Program) -> dict[str, Any]:
    version, _, group = program.api.partition(".")
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": program.api},
        "spec": {
            "group": group,
            "version": version,
            "service": {"name": program.name, "namespace": namespace},
            "insecureSkipTLSVerify": True,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
        },
    }
