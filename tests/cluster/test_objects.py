"""The API server accepts every field of an agent's objects, and its defaults and rewrites are not drift."""

import json
from typing import Any

import pytest

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.spec import AgentSpec
from agent_operator.kube.compare import has_all
from agent_operator.manifests import desired
from agent_operator.manifests.document import Document
from testbed.cluster import Cluster

RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
PROBE = {"httpGet": {"port": 9000}, "initialDelaySeconds": 0}
BESIDE: dict[str, Any] = {"name": "beside", "image": "busybox", "securityContext": RESTRICTED}
NEIGHBOUR = {"weight": 1, "podAffinityTerm": {"topologyKey": "rack", "labelSelector": {"matchLabels": {"a": "b"}}}}

# In forms that the API server rewrites ("1000" as "1k"), and without the fields that it defaults.
SPEC: Document = {
    "agent": {"provider": "echo"},
    "auth": {"enabled": True},
    "apiKey": {"value": "not-a-real-key"},
    "redis": {"url": "redis://state:6380/0"},
    "resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": {"memory": "2e9"}},
    "autoscaling": {
        "enabled": True,
        "minReplicas": 2,
        "targetCPUUtilizationPercentage": 60,
        "targetMemoryUtilizationPercentage": 80,
        "targetInFlightRequests": 1000,
        "behavior": {"scaleUp": {"policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}]}},
    },
    "worker": {
        "enabled": True,
        "resources": {"requests": {"cpu": "0.5"}},
        "autoscaling": {
            "enabled": True,
            "minReplicas": 2,
            "targetQueueDepth": 100_000,
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}},
        },
    },
    "service": {"type": "NodePort", "port": 8080, "annotations": {"example.com/a": ""}},
    "ingress": {"enabled": True, "hosts": ["a.example.com", "*.b.example.com"], "tlsSecretName": "certificate"},
    "podDisruptionBudget": {"minAvailable": "50%"},
    "networkPolicy": {
        "ingressFrom": [{"podSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}],
        "extraEgress": [{"ports": [{"port": 4318}, {"port": 5000, "endPort": 5010}]}, {}],
    },
    "podLabels": {"empty": ""},
    "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [NEIGHBOUR]}},
    "tolerations": [
        {"key": "spot", "operator": "Exists"},
        {"key": "a", "value": "", "effect": "NoExecute", "tolerationSeconds": 0},
    ],
    "topologySpreadConstraints": [{"topologyKey": "rack"}, {"topologyKey": "zone", "maxSkew": 2}],
    "extraEnv": [
        {"name": "EMPTY", "value": ""},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1000k"}}},
    ],
    "envFrom": [{"prefix": "P_", "secretRef": {"name": "more"}}],
    "extraVolumes": [
        {"name": "scratch", "emptyDir": {"sizeLimit": "1024Mi"}},
        {"name": "files", "configMap": {"name": "files", "items": [{"key": "a", "path": "b"}]}},
        {"name": "mixed", "projected": {"sources": [{"secret": {"name": "mixed"}}]}},
    ],
    "extraVolumeMounts": [{"name": "scratch", "mountPath": "/scratch", "readOnly": False}],
    "runtime": {
        "code": {"configMapKeyRef": {"name": "code", "key": "agent.py"}},
        "env": [{"name": "EMPTY", "value": ""}],
        "resources": {"limits": {"cpu": "500m", "memory": "1024Mi"}},
        "volumeMounts": [{"name": "scratch", "mountPath": "/scratch", "readOnly": False}],
    },
    "tools": [
        {
            "name": "remote",
            "mcp": {
                "url": "http://clock.tools:8080/mcp",
                "headersFrom": [{"name": "X-Key", "secretKeyRef": {"name": "mcp", "key": "token"}}],
            },
        },
        {
            "name": "beside",
            "mcp": {
                "sidecar": {
                    "image": "example.com/clock:1",
                    "port": 9001,
                    "env": [{"name": "EMPTY", "value": ""}],
                    "resources": {"limits": {"cpu": "500m", "memory": "1024Mi"}},
                    "volumeMounts": [{"name": "scratch", "mountPath": "/scratch", "readOnly": False}],
                }
            },
        },
        {"name": "local", "code": {"configMapKeyRef": {"name": "code", "key": "tools.py"}}},
    ],
    "initContainers": [BESIDE | {"name": "first", "restartPolicy": "Always"}],
    "sidecars": [
        BESIDE
        | {
            "ports": [{"containerPort": 9000}],
            "livenessProbe": PROBE,
            "resources": {"limits": {"cpu": "2000m"}},
            "lifecycle": {"preStop": {"sleep": {"seconds": 0}}},
            "tty": False,
        }
    ],
}
OF_THE_API_SERVER = (
    *("ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Ingress", "NetworkPolicy"),
    *("PodDisruptionBudget", "Secret", "Service", "ServiceAccount"),
)


@pytest.mark.parametrize("spec", [{"agent": {"provider": "echo"}}, SPEC], ids=["little", "much"])
def test_defaults_and_rewrites_of_the_api_server_are_not_drift(
    control_plane: Cluster, namespace: str, spec: Document
) -> None:
    objects = desired(AgentDeployment("hello", namespace, AgentSpec.model_validate(spec)))

    drifted = [_name(each) for each in objects if not has_all(each, _as_kept(control_plane, each))]

    assert drifted == []
    if spec is SPEC:
        assert sorted({each["kind"] for each in objects}) == sorted(OF_THE_API_SERVER)


def _as_kept(cluster: Cluster, document: Document) -> Document:
    """Return the object as the API server would store it; it rejects unknown fields."""
    apply = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "--warnings-as-errors"]
    text = cluster.kubectl(*apply, "-f-", "-ojson", stdin=json.dumps(document))
    kept: Document = json.loads(text)
    return kept | ({"stringData": document["stringData"]} if "stringData" in document else {})


def _name(document: Document) -> str:
    return f"{document['kind']} {document['metadata']['name']}"
