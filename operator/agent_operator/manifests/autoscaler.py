"""The HorizontalPodAutoscaler (autoscaling/v2)."""

from agent_operator.api.scaling import Autoscaling
from agent_operator.api.spec import AgentSpec
from agent_operator.manifests.form import Document, metadata

# Kept when the spec asks for autoscaling and names no target.
DEFAULT_CPU_PERCENTAGE = 70


def horizontal_pod_autoscaler(name: str, namespace: str, spec: AgentSpec, managed_by: str) -> Document | None:
    """The autoscaler of the agent's pods, or None when autoscaling is off."""
    if not spec.autoscaling.enabled:
        return None
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(name, namespace, managed_by),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": spec.autoscaling.min_replicas,
            "maxReplicas": spec.autoscaling.max_replicas,
            "metrics": _metrics(spec.autoscaling),
        },
    }


def _metrics(scaling: Autoscaling) -> list[Document]:
    cpu = scaling.target_cpu_utilization_percentage
    memory = scaling.target_memory_utilization_percentage
    if cpu is None and memory is None:
        cpu = DEFAULT_CPU_PERCENTAGE
    targets = [("cpu", cpu), ("memory", memory)]
    return [_utilization(resource, percentage) for resource, percentage in targets if percentage is not None]


def _utilization(resource: str, percentage: int) -> Document:
    return {
        "type": "Resource",
        "resource": {"name": resource, "target": {"type": "Utilization", "averageUtilization": percentage}},
    }
