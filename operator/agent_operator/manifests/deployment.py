"""The Deployment of the agent API: hardened pods (Kubernetes: "Pod Security Standards", level restricted)."""

import hashlib
from collections.abc import Mapping

from agent_operator import __version__
from agent_operator.api.pods import Resources, Toleration
from agent_operator.api.spec import SECRET_KEY, AgentSpec, Image
from agent_operator.manifests.configmap import settings
from agent_operator.manifests.form import Document, metadata, without_empty
from agent_operator.manifests.labels import pod_labels, selector
from agent_operator.manifests.names import (
    CONFIG_CHECKSUM,
    CONTAINER,
    CONTAINER_PORT,
    PORT_NAME,
    SECRETS_DIR,
    SECRETS_VOLUME,
)
from agent_operator.manifests.secret import inline_secrets

# The user that both images run as.
UID = 10001

# A stopping pod still gets requests until every proxy has heard that its endpoint is gone: it goes on serving so long.
PRE_STOP_SECONDS = 5
# What a pod gets beyond its longest request to stop in order: the pause above, and ten seconds to close what is open.
GRACE_BEYOND_REQUEST_SECONDS = PRE_STOP_SECONDS + 10


def deployment(name: str, namespace: str, spec: AgentSpec, managed_by: str) -> Document:
    """The Deployment of the agent. It says nothing about `replicas` while an autoscaler does."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(name, namespace, managed_by),
        "spec": without_empty(
            {
                "replicas": None if spec.autoscaling.enabled else spec.replicas,
                "revisionHistoryLimit": 3,
                "selector": {"matchLabels": selector(name)},
                "strategy": {
                    "type": "RollingUpdate",
                    "rollingUpdate": {
                        "maxSurge": spec.rollout.max_surge,
                        "maxUnavailable": spec.rollout.max_unavailable,
                    },
                },
                "template": {
                    "metadata": {
                        "labels": {**(spec.pod_labels or {}), **pod_labels(name)},
                        "annotations": {**(spec.pod_annotations or {}), CONFIG_CHECKSUM: config_checksum(spec)},
                    },
                    "spec": _pod(name, spec),
                },
            }
        ),
    }


def image_reference(image: Image) -> str:
    """The image as a container runtime takes it; a digest wins over a tag."""
    if image.digest is not None:
        return f"{image.repository}@{image.digest}"
    return f"{image.repository}:{image.tag or __version__}"


def config_checksum(spec: AgentSpec) -> str:
    """SHA-256, in hexadecimal, of the ConfigMap's data and then the inline Secret's, as sorted lines `KEY=VALUE`.

    It stands on the pod template, so that a change of either replaces the pods, which read them only at their start.
    """
    return hashlib.sha256((_lines(settings(spec)) + _lines(inline_secrets(spec))).encode()).hexdigest()


def _lines(mapping: Mapping[str, str]) -> str:
    return "".join(f"{key}={value}\n" for key, value in sorted(mapping.items()))


def _pod(name: str, spec: AgentSpec) -> Document:
    return without_empty(
        {
            "automountServiceAccountToken": False,
            # Kubernetes would set <SERVICE>_PORT for each Service of the namespace; of one named `api` the agent
            # would read API_PORT=tcp://… as its own setting.
            "enableServiceLinks": False,
            "imagePullSecrets": [{"name": reference.name} for reference in spec.image_pull_secrets or []],
            "nodeSelector": dict(spec.node_selector or {}),
            "tolerations": [_toleration(toleration) for toleration in spec.tolerations or []],
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": selector(name)},
                }
            ],
            "terminationGracePeriodSeconds": _grace_period(spec),
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": UID,
                "runAsGroup": UID,
                "fsGroup": UID,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_container(name, spec)],
            "volumes": [{"name": "tmp", "emptyDir": {}}, *_secret_volumes(name, spec)],
        }
    )


def _container(name: str, spec: AgentSpec) -> Document:
    secret = _secret_volumes(name, spec)
    return without_empty(
        {
            "name": CONTAINER,
            "image": image_reference(spec.image),
            "imagePullPolicy": spec.image.pull_policy,
            "ports": [{"name": PORT_NAME, "containerPort": CONTAINER_PORT, "protocol": "TCP"}],
            "envFrom": [{"configMapRef": {"name": name}}],
            "env": [{"name": "SECRETS_DIR", "value": SECRETS_DIR}] if secret else [],
            "volumeMounts": [
                {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  a folder of the pod
                *({"name": volume["name"], "mountPath": SECRETS_DIR, "readOnly": True} for volume in secret),
            ],
            "resources": _resources(spec.resources),
            # Start-up gets two minutes, looked at each second so that a pod is used as soon as it can be.
            "startupProbe": _probe("/health/live", periodSeconds=1, failureThreshold=120, timeoutSeconds=1),
            # Forgiving: a pod that is only busy must not be killed.
            "livenessProbe": _probe("/health/live", periodSeconds=10, failureThreshold=6, timeoutSeconds=5),
            "readinessProbe": _probe("/health/ready", periodSeconds=5, failureThreshold=3, timeoutSeconds=5),
            # The last lines of a container that failed, which the agent's status then shows.
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
        }
    )


def _probe(path: str, **timing: int) -> Document:
    return {"httpGet": {"path": path, "port": PORT_NAME}, **timing}


def _secret_volumes(name: str, spec: AgentSpec) -> list[Document]:
    """The volume that holds the API key as a file, from our own Secret or the user's; none when there is no key."""
    if spec.api_key.value is not None:
        secret_name, key = name, SECRET_KEY
    elif spec.api_key.secret_name is not None:
        secret_name, key = spec.api_key.secret_name, spec.api_key.secret_key
    else:
        return []
    return [
        {
            "name": SECRETS_VOLUME,
            "secret": {"secretName": secret_name, "items": [{"key": key, "path": SECRET_KEY}]},
        }
    ]


def _grace_period(spec: AgentSpec) -> int:
    given = spec.rollout.termination_grace_period_seconds
    return spec.agent.request_timeout_seconds + GRACE_BEYOND_REQUEST_SECONDS if given is None else given


def _resources(resources: Resources) -> Document:
    """Amounts as text, the one form in which the API server gives them back."""
    return without_empty(
        {
            kind: {name: str(amount) for name, amount in (amounts or {}).items()}
            for kind, amounts in (("requests", resources.requests), ("limits", resources.limits))
        }
    )


def _toleration(toleration: Toleration) -> Document:
    document: Document = toleration.model_dump(by_alias=True, exclude_none=True)
    return document
