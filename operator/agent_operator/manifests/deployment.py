"""The Deployments of the agent API and of its workers."""

from agent_operator.api.spec import AgentSpec, Rollout
from agent_operator.manifests.document import Document, metadata, without_empty
from agent_operator.manifests.labels import Component, selector
from agent_operator.manifests.names import worker_name
from agent_operator.manifests.pod import pod_template


def deployment(name: str, namespace: str, spec: AgentSpec, managed_by: str) -> Document:
    """Return the Deployment of the agent. It does not set `replicas` if an autoscaler does."""
    replicas = None if spec.autoscaling.enabled else spec.replicas
    return _deployment(name, namespace, spec, managed_by, component="api", replicas=replicas)


def worker_deployment(name: str, namespace: str, spec: AgentSpec, managed_by: str) -> Document | None:
    """Return the Deployment of the agent's workers, or None if it has no workers."""
    if not spec.worker.enabled:
        return None
    replicas = None if spec.worker.autoscaling.enabled else spec.worker.replicas
    return _deployment(name, namespace, spec, managed_by, component="worker", replicas=replicas)


def _deployment(
    name: str, namespace: str, spec: AgentSpec, managed_by: str, *, component: Component, replicas: int | None
) -> Document:
    own_name = worker_name(name) if component == "worker" else name
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(name, namespace, managed_by, own_name=own_name, component=component),
        "spec": without_empty(
            {
                "replicas": replicas,
                "revisionHistoryLimit": 3,
                "selector": {"matchLabels": selector(name, component)},
                "strategy": _strategy(spec.rollout),
                "template": pod_template(name, namespace, spec, component),
            }
        ),
    }


def _strategy(rollout: Rollout) -> Document:
    if rollout.strategy == "Recreate":
        return {"type": "Recreate"}
    return {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": rollout.max_surge, "maxUnavailable": rollout.max_unavailable},
    }
