"""An agent whose tool reads the Kubernetes API, and the account with which the tool may do so.

The tool is a container beside the agent. The token is mounted in that container alone: the agent itself has none.
"""

from pathlib import Path
from typing import Any

from testbed import images

AGENT = "harbor-desk"
TOOL = "pods"
QUESTION = "How many pods run in this namespace?"
PROGRAM = Path(__file__).with_name("pods_tool.py")
_FOLDER = "/etc/pods"
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_RBAC = "rbac.authorization.k8s.io"


def objects(namespace: str, *more: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the agent, its tool's program, and the role of its ServiceAccount; `more` are further entries of tools."""
    name = {"name": AGENT, "namespace": namespace}
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": TOOL, "namespace": namespace},
            "data": {PROGRAM.name: PROGRAM.read_text()},
        },
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "Role",
            "metadata": name,
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}],
        },
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": name,
            "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": AGENT},
            "subjects": [{"kind": "ServiceAccount", **name}],
        },
        {
            "apiVersion": "portside.dev/v1alpha1",
            "kind": "AgentDeployment",
            "metadata": name,
            "spec": {
                "agent": {"provider": "echo"},
                "autoscaling": {"enabled": False},
                "tools": [{"name": TOOL, "mcp": {"sidecar": _SIDECAR | {"image": images.reference("service")}}}, *more],
                "extraVolumes": _VOLUMES,
                # The tool calls the API server; the agent calls nothing outside of its pod.
                "networkPolicy": {"extraEgress": [{"ports": [{"port": 443}, {"port": 6443}]}]},
            },
        },
    ]


_SIDECAR: dict[str, Any] = {
    "imagePullPolicy": "IfNotPresent",
    "args": ["tools", "--host", "::", "--loopback-only", f"{_FOLDER}/{PROGRAM.name}"],
    "volumeMounts": [
        {"name": "program", "mountPath": _FOLDER, "readOnly": True},
        {"name": "account", "mountPath": _ACCOUNT, "readOnly": True},
    ],
}
# What a pod with `automountServiceAccountToken` has in the same folder.
_VOLUMES: list[dict[str, Any]] = [
    {"name": "program", "configMap": {"name": TOOL}},
    {
        "name": "account",
        "projected": {
            "sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
            ]
        },
    },
]
