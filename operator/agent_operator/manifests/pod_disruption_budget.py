"""The PodDisruptionBudgets (policy/v1): how many pods may be unavailable while nodes are drained."""

from agent_operator.api.agent import AgentDeployment
from agent_operator.manifests.document import Document, metadata
from agent_operator.manifests.labels import Component, selector
from agent_operator.manifests.names import worker_name

# With one pod, a budget would either block a drain or have no effect.
FEWEST_PODS = 2


def pod_disruption_budget(agent: AgentDeployment) -> Document | None:
    """Return the budget of the agent's pods; None if it is disabled or there may be a single pod."""
    fewest = agent.spec.autoscaling.min_replicas if agent.spec.autoscaling.enabled else agent.spec.replicas
    return _budget(agent, "api") if fewest >= FEWEST_PODS else None


def worker_disruption_budget(agent: AgentDeployment) -> Document | None:
    """Return the budget of the workers; None if it is disabled, or there may be a single worker or none."""
    worker = agent.spec.worker
    fewest = worker.autoscaling.min_replicas if worker.autoscaling.enabled else worker.replicas
    wanted = worker.enabled and fewest >= FEWEST_PODS
    return _budget(agent, "worker") if wanted else None


def _budget(agent: AgentDeployment, component: Component) -> Document | None:
    budget = agent.spec.pod_disruption_budget
    if not budget.enabled:
        return None
    own_name = worker_name(agent.name) if component == "worker" else agent.name
    limit = (
        {"maxUnavailable": budget.max_unavailable}
        if budget.min_available is None
        else {"minAvailable": budget.min_available}
    )
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(agent, own_name=own_name, component=component),
        "spec": {
            **limit,
            "selector": {"matchLabels": selector(agent.name, component)},
            # A pod that is already unhealthy must not block a drain (KEP-3017).
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
