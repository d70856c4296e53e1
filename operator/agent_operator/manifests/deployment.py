"""The Deployments of the agent API and of its workers."""

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.spec import Rollout
from agent_operator.manifests.document import Document, metadata, without_empty
from agent_operator.manifests.labels import Component, selector
from agent_operator.manifests.names import worker_name
from agent_operator.manifests.pod import pod_template


def deployment(agent: AgentDeployment) -> Document:
    """Return the Deployment of the agent. It does not set `replicas` if an autoscaler does."""
    replicas = None if agent.spec.autoscaling.enabled else agent.spec.replicas
    return _deployment(agent, component="api", replicas=replicas)


def worker_deployment(agent: AgentDeployment) -> Document | None:
    """Return the Deployment of the agent's workers, or None if it has no workers."""
    if not agent.spec.worker.enabled:
        return None
    replicas = None if agent.spec.worker.autoscaling.enabled else agent.spec.worker.replicas
    return _deployment(agent, component="worker", replicas=replicas)


def _deployment(agent: AgentDeployment, *, component: Component, replicas: int | None) -> Document:
    own_name = worker_name(agent.name) if component == "worker" else agent.name
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(agent, own_name=own_name, component=component),
        "spec": without_empty(
            {
                "replicas": replicas,
                "revisionHistoryLimit": 3,
                "selector": {"matchLabels": selector(agent.name, component)},
                "strategy": _strategy(agent.spec.rollout),
                "template": pod_template(agent, component),
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
