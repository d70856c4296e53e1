"""The PodDisruptionBudgets (policy/v1): how many pods may be unavailable while nodes are drained."""

from agent_operator.api.spec import AgentSpec
from agent_operator.manifests.document import Document, metadata
from agent_operator.manifests.labels import Component, selector
from agent_operator.manifests.names import worker_name

# With one pod, a budget would either block a drain or have no effect.
FEWEST_PODS = 2


def pod_disruption_budget(name: str, namespace: str, spec: AgentSpec, managed_by: str) -> Document | None:
    """Return the budget of the agent's pods; None if it is disabled or there may be a single pod."""
    fewest = spec.autoscaling.min_replicas if spec.autoscaling.enabled else spec.replicas
    return _budget(name, namespace, spec, managed_by, "api") if fewest >= FEWEST_PODS else None


def worker_disruption_budget(name: str, namespace: str, spec: AgentSpec, managed_by: str) -> Document | None:
    """Return the budget of the workers; None if it is disabled, or there may be a single worker or none."""
    worker = spec.worker
    fewest = worker.autoscaling.min_replicas if worker.autoscaling.enabled else worker.replicas
    wanted = worker.enabled and fewest >= FEWEST_PODS
    return _budget(name, namespace, spec, managed_by, "worker") if wanted else None


def _budget(name: str, namespace: str, spec: AgentSpec, managed_by: str, component: Component) -> Document | None:
    budget = spec.pod_disruption_budget
    if not budget.enabled:
        return None
    own_name = worker_name(name) if component == "worker" else name
    limit = (
        {"maxUnavailable": budget.max_unavailable}
        if budget.min_available is None
        else {"minAvailable": budget.min_available}
    )
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(name, namespace, managed_by, own_name=own_name, component=component),
        "spec": {
            **limit,
            "selector": {"matchLabels": selector(name, component)},
            # A pod that is already unhealthy must not block a drain (KEP-3017).
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
