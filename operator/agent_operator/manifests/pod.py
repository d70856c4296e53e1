"""The pods of an agent: one template for the API and the workers (Pod Security Standards, level Restricted)."""

from collections.abc import Iterable
from typing import Any

from agent_operator import __version__
from agent_operator.api.agent import AgentDeployment
from agent_operator.api.base import Model
from agent_operator.api.core_v1 import EnvSource, Resources
from agent_operator.api.spec import AgentSpec, Image
from agent_operator.manifests.config_map import config_checksum
from agent_operator.manifests.document import Document, without_empty
from agent_operator.manifests.labels import Component, pod_labels, selector
from agent_operator.manifests.names import (
    CONFIG_CHECKSUM,
    CONTAINER,
    CONTAINER_PORT,
    METRICS_PATH,
    METRICS_PORT,
    METRICS_PORT_NAME,
    PORT_NAME,
    SECRETS_DIR,
    SECRETS_VOLUME,
)
from agent_operator.manifests.secrets_volume import secret_sources
from agent_operator.manifests.service_account import account_name

# A terminating pod still receives requests until every proxy has removed its endpoint, so it keeps serving this long.
PRE_STOP_SECONDS = 5
# Time for a graceful shutdown beyond the longest answer: the delay above, and ten seconds to close connections.
GRACE_BEYOND_ANSWER_SECONDS = PRE_STOP_SECONDS + 10


def pod_template(agent: AgentDeployment, component: Component) -> Document:
    """Return the pod template of one component of the agent."""
    return {
        "metadata": {
            "labels": {**(agent.spec.pod_labels or {}), **pod_labels(agent.name, component)},
            "annotations": {
                **_scraped(agent.spec),
                **(agent.spec.pod_annotations or {}),
                CONFIG_CHECKSUM: config_checksum(agent),
            },
        },
        "spec": _pod(agent, component),
    }


def _scraped(spec: AgentSpec) -> dict[str, str]:
    """Return the annotations for Prometheus discovery. With a ServiceMonitor, they would cause a second scrape."""
    if spec.monitoring.service_monitor.enabled:
        return {}
    return {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(METRICS_PORT),
        "prometheus.io/path": METRICS_PATH,
    }


def image_reference(image: Image) -> str:
    """Return the image reference for the container runtime; a digest takes precedence over a tag."""
    if image.digest is not None:
        return f"{image.repository}@{image.digest}"
    return f"{image.repository}:{image.tag or __version__}"


def _pod(agent: AgentDeployment, component: Component) -> Document:
    return without_empty(
        {
            "serviceAccountName": account_name(agent),
            "automountServiceAccountToken": False,
            # Otherwise Kubernetes sets <SERVICE>_PORT for each Service of the namespace. For a Service named `api`,
            # the agent would read API_PORT=tcp://… as its own setting.
            "enableServiceLinks": False,
            "imagePullSecrets": _documents(agent.spec.image_pull_secrets),
            "priorityClassName": agent.spec.priority_class_name,
            "nodeSelector": dict(agent.spec.node_selector or {}),
            "tolerations": _documents(agent.spec.tolerations),
            "affinity": dict(agent.spec.affinity or {}),
            "topologySpreadConstraints": _spread(agent, component),
            "terminationGracePeriodSeconds": _grace_period(agent.spec),
            "securityContext": dict(agent.spec.pod_security_context),
            "initContainers": _documents(agent.spec.init_containers),
            "containers": [_container(agent, component), *_documents(agent.spec.sidecars)],
            "volumes": [
                {"name": "tmp", "emptyDir": {}},
                *_secrets_volume(agent),
                *_documents(agent.spec.extra_volumes),
            ],
        }
    )


def _container(agent: AgentDeployment, component: Component) -> Document:
    worker = component == "worker"
    secrets = _secrets_volume(agent)
    resources = (
        agent.spec.worker.resources if worker and agent.spec.worker.resources is not None else agent.spec.resources
    )
    return without_empty(
        {
            "name": CONTAINER,
            "image": image_reference(agent.spec.image),
            "imagePullPolicy": agent.spec.image.pull_policy,
            "args": ["worker"] if worker else None,
            "ports": [
                {"name": PORT_NAME, "containerPort": CONTAINER_PORT, "protocol": "TCP"},
                {"name": METRICS_PORT_NAME, "containerPort": METRICS_PORT, "protocol": "TCP"},
            ],
            "envFrom": [{"configMapRef": {"name": agent.name}}, *map(_source, agent.spec.env_from or [])],
            "env": _documents(agent.spec.extra_env),
            "volumeMounts": [
                {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  a folder of the pod
                *({"name": volume["name"], "mountPath": SECRETS_DIR, "readOnly": True} for volume in secrets),
                *_documents(agent.spec.extra_volume_mounts),
            ],
            "resources": _resources(resources),
            # Startup may take two minutes. The probe runs each second, so that a pod gets requests as soon as possible.
            "startupProbe": _probe("/health/live", periodSeconds=1, failureThreshold=120, timeoutSeconds=1),
            # Lenient: a pod that is only busy must not be killed.
            "livenessProbe": _probe("/health/live", periodSeconds=10, failureThreshold=6, timeoutSeconds=5),
            "readinessProbe": _probe("/health/ready", periodSeconds=5, failureThreshold=3, timeoutSeconds=5),
            # Shows users with access to the pod why a container failed; the agent's status does not show it.
            "terminationMessagePolicy": "FallbackToLogsOnError",
            # A worker receives no requests, so it can stop immediately.
            "lifecycle": None if worker else {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
            "securityContext": dict(agent.spec.security_context),
        }
    )


def _probe(path: str, **timing: int) -> Document:
    return {"httpGet": {"path": path, "port": PORT_NAME}, **timing}


def _spread(agent: AgentDeployment, component: Component) -> list[Document]:
    given = _documents(agent.spec.topology_spread_constraints) or [
        {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway"}
        for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
    ]
    return [{**each, "labelSelector": {"matchLabels": selector(agent.name, component)}} for each in given]


def _secrets_volume(agent: AgentDeployment) -> list[Document]:
    """Return the volume of secrets, which the service watches; no volume if it would be empty."""
    sources = secret_sources(agent)
    return [{"name": SECRETS_VOLUME, "projected": {"sources": sources}}] if sources else []


def _grace_period(spec: AgentSpec) -> int:
    given = spec.rollout.termination_grace_period_seconds
    return spec.agent.longest_answer_seconds + GRACE_BEYOND_ANSWER_SECONDS if given is None else given


def _resources(resources: Resources) -> Document:
    """Return the amounts as text, the only form in which the API server returns them."""
    return without_empty(
        {
            kind: {name: str(amount) for name, amount in (amounts or {}).items()}
            for kind, amounts in (("requests", resources.requests), ("limits", resources.limits))
        }
    )


def _source(source: EnvSource) -> Document:
    document: Document = source.model_dump(by_alias=True, exclude_none=True)
    return document


def _documents(models: Iterable[Model] | None) -> list[dict[str, Any]]:
    """Return the models in the form in which they were written."""
    return [model.model_dump(by_alias=True, exclude_none=True) for model in models or []]
