"""The pods of an agent: one template for the API and the workers (Pod Security Standards, level Restricted)."""

from collections.abc import Iterable

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.kubernetes.containers import Container
from agent_operator.api.spec import AgentSpec
from agent_operator.manifests.config_map import config_checksum
from agent_operator.manifests.container import amounts, as_written, http_probe, image_reference
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
from agent_operator.manifests.runtime import (
    as_user_of_the_pod,
    pod_security_context,
    runtime_containers,
    runtime_volumes,
)
from agent_operator.manifests.secrets_volume import secret_sources
from agent_operator.manifests.service_account import account_name
from agent_operator.manifests.tools import tool_containers, tool_mounts, tool_volumes

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


def _pod(agent: AgentDeployment, component: Component) -> Document:
    return without_empty(
        {
            "serviceAccountName": account_name(agent),
            "automountServiceAccountToken": False,
            # Otherwise Kubernetes sets <SERVICE>_PORT for each Service of the namespace. For a Service named `api`,
            # the agent would read API_PORT=tcp://… as its own setting.
            "enableServiceLinks": False,
            "imagePullSecrets": as_written(agent.spec.image_pull_secrets),
            "priorityClassName": agent.spec.priority_class_name,
            "nodeSelector": dict(agent.spec.node_selector or {}),
            "tolerations": as_written(agent.spec.tolerations),
            "affinity": dict(agent.spec.affinity or {}),
            "topologySpreadConstraints": _spread(agent, component),
            "terminationGracePeriodSeconds": _grace_period(agent.spec),
            "securityContext": pod_security_context(agent.spec),
            "initContainers": [
                *_beside(agent.spec, agent.spec.init_containers),
                *tool_containers(agent.spec),
                *runtime_containers(agent),
            ],
            "containers": [_container(agent, component), *_beside(agent.spec, agent.spec.sidecars)],
            "volumes": [
                {"name": "tmp", "emptyDir": {}},
                *_secrets_volume(agent),
                *tool_volumes(agent),
                *runtime_volumes(agent),
                *as_written(agent.spec.extra_volumes),
            ],
        }
    )


def _container(agent: AgentDeployment, component: Component) -> Document:
    worker = component == "worker"
    secrets = _secrets_volume(agent)
    resources = (
        agent.spec.worker.resources if worker and agent.spec.worker.resources is not None else agent.spec.resources
    )
    container = without_empty(
        {
            "name": CONTAINER,
            "image": image_reference(agent.spec.image),
            "imagePullPolicy": agent.spec.image.pull_policy,
            "args": ["worker"] if worker else None,
            "ports": [
                {"name": PORT_NAME, "containerPort": CONTAINER_PORT, "protocol": "TCP"},
                {"name": METRICS_PORT_NAME, "containerPort": METRICS_PORT, "protocol": "TCP"},
            ],
            "envFrom": [{"configMapRef": {"name": agent.name}}, *as_written(agent.spec.env_from)],
            "env": as_written(agent.spec.extra_env),
            "volumeMounts": [
                {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  a folder of the pod
                *({"name": volume["name"], "mountPath": SECRETS_DIR, "readOnly": True} for volume in secrets),
                *tool_mounts(agent.spec),
                *as_written(agent.spec.extra_volume_mounts),
            ],
            "resources": amounts(resources),
            # Startup may take two minutes. The probe runs each second, so that a pod gets requests as soon as possible.
            "startupProbe": http_probe(
                "/health/live", PORT_NAME, periodSeconds=1, failureThreshold=120, timeoutSeconds=1
            ),
            # Lenient: a pod that is only busy must not be killed.
            "livenessProbe": http_probe(
                "/health/live", PORT_NAME, periodSeconds=10, failureThreshold=6, timeoutSeconds=5
            ),
            "readinessProbe": http_probe(
                "/health/ready", PORT_NAME, periodSeconds=5, failureThreshold=3, timeoutSeconds=5
            ),
            # Shows users with access to the pod why a container failed; the agent's status does not show it.
            "terminationMessagePolicy": "FallbackToLogsOnError",
            # A worker receives no requests, so it can stop immediately.
            "lifecycle": None if worker else {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}},
            "securityContext": dict(agent.spec.security_context),
        }
    )
    return as_user_of_the_pod(agent.spec, container)


def _beside(spec: AgentSpec, containers: Iterable[Container] | None) -> list[Document]:
    return [as_user_of_the_pod(spec, each) for each in as_written(containers)]


def _spread(agent: AgentDeployment, component: Component) -> list[Document]:
    given = as_written(agent.spec.topology_spread_constraints) or [
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
