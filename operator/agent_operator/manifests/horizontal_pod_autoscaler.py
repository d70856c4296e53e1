"""The HorizontalPodAutoscalers (autoscaling/v2) of the agent API and of its workers; KEDA creates its own."""

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.scaling import Autoscaling, WorkerAutoscaling
from agent_operator.manifests.document import Document, metadata, without_empty
from agent_operator.manifests.names import worker_name

# The target if the spec enables autoscaling and sets no target.
DEFAULT_CPU_PERCENTAGE = 70


def horizontal_pod_autoscaler(agent: AgentDeployment) -> Document | None:
    """Return the autoscaler of the agent's pods, or None if autoscaling is disabled or uses KEDA."""
    scaling = agent.spec.autoscaling
    if not scaling.enabled or scaling.engine == "keda":
        return None
    own = metadata(agent)
    return _autoscaler(own, scaling, _metrics(scaling))


def worker_autoscaler(agent: AgentDeployment) -> Document | None:
    """Return the autoscaler of the workers; None without workers, with a fixed number, or with KEDA."""
    scaling = agent.spec.worker.autoscaling
    if not (agent.spec.worker.enabled and scaling.enabled) or agent.spec.autoscaling.engine == "keda":
        return None
    own = metadata(agent, own_name=worker_name(agent.name), component="worker")
    # All pods report the depth of the same queue, so the metric belongs to the Service.
    depth = {
        "type": "Object",
        "object": {
            "describedObject": {"apiVersion": "v1", "kind": "Service", "name": agent.name},
            "metric": {"name": "agent_task_queue_depth"},
            "target": {"type": "AverageValue", "averageValue": str(scaling.target_queue_depth)},
        },
    }
    return _autoscaler(own, scaling, [depth])


def _autoscaler(own: Document, scaling: Autoscaling | WorkerAutoscaling, metrics: list[Document]) -> Document:
    """Return the autoscaler of the Deployment with the same name."""
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": own,
        "spec": without_empty(
            {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": own["name"]},
                "minReplicas": scaling.min_replicas,
                "maxReplicas": scaling.max_replicas,
                "metrics": metrics,
                "behavior": scaling.behavior,
            }
        ),
    }


def _metrics(scaling: Autoscaling) -> list[Document]:
    in_flight = scaling.target_in_flight_requests
    metrics = [_utilization(resource, percentage) for resource, percentage in utilizations(scaling).items()]
    return metrics + ([_of_pods("agent_requests_in_flight", in_flight)] if in_flight is not None else [])


def utilizations(scaling: Autoscaling) -> dict[str, int]:
    """Return the target utilization of each resource, in percent of its request."""
    cpu = scaling.target_cpu_utilization_percentage
    memory = scaling.target_memory_utilization_percentage
    if cpu is None and memory is None and scaling.target_in_flight_requests is None:
        cpu = DEFAULT_CPU_PERCENTAGE
    return {resource: share for resource, share in (("cpu", cpu), ("memory", memory)) if share is not None}


def _utilization(resource: str, percentage: int) -> Document:
    return {
        "type": "Resource",
        "resource": {"name": resource, "target": {"type": "Utilization", "averageUtilization": percentage}},
    }


def _of_pods(metric: str, average: int) -> Document:
    return {
        "type": "Pods",
        "pods": {"metric": {"name": metric}, "target": {"type": "AverageValue", "averageValue": str(average)}},
    }
