"""The ScaledObjects (keda.sh/v1alpha1) of the agent API and its workers, for which KEDA creates autoscalers."""

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.scaling import Autoscaling, WorkerAutoscaling
from agent_operator.api.spec import AgentSpec
from agent_operator.manifests.document import Document, metadata, without_empty
from agent_operator.manifests.horizontal_pod_autoscaler import utilizations
from agent_operator.manifests.names import worker_name


def scaled_object(agent: AgentDeployment) -> Document | None:
    """Return the ScaledObject of the agent's pods, or None if KEDA does not scale them."""
    scaling = agent.spec.autoscaling
    if not scaling.enabled or scaling.engine != "keda":
        return None
    triggers = [_utilization(resource, share) for resource, share in utilizations(scaling).items()]
    if scaling.target_in_flight_requests is not None:
        of_agent = f'{{namespace="{agent.namespace}", service="{agent.name}"}}'
        # More pods do not help requests that wait because the model API throttled them.
        query = f"sum(agent_requests_in_flight{of_agent}) - sum(agent_requests_throttled{of_agent})"
        triggers.append(_prometheus(agent.spec, query, scaling.target_in_flight_requests))
    return _scaled_object(metadata(agent), scaling, triggers)


def worker_scaled_object(agent: AgentDeployment) -> Document | None:
    """Return the ScaledObject of the workers, or None if KEDA does not scale them."""
    scaling = agent.spec.worker.autoscaling
    if not (agent.spec.worker.enabled and scaling.enabled) or agent.spec.autoscaling.engine != "keda":
        return None
    own = metadata(agent, own_name=worker_name(agent.name), component="worker")
    # Every pod of the agent reports the same number.
    query = f'max(agent_tasks_due{{namespace="{agent.namespace}", service="{agent.name}"}})'
    return _scaled_object(own, scaling, [_prometheus(agent.spec, query, scaling.target_queue_depth)])


def _scaled_object(own: Document, scaling: Autoscaling | WorkerAutoscaling, triggers: list[Document]) -> Document:
    """Return the ScaledObject of the Deployment with the same name."""
    behavior = {"horizontalPodAutoscalerConfig": {"behavior": scaling.behavior}} if scaling.behavior else None
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": own,
        "spec": without_empty(
            {
                "scaleTargetRef": {"name": own["name"]},
                "minReplicaCount": scaling.min_replicas,
                "maxReplicaCount": scaling.max_replicas,
                "advanced": behavior,
                "triggers": triggers,
            }
        ),
    }


def _utilization(resource: str, share: int) -> Document:
    return {"type": resource, "metricType": "Utilization", "metadata": {"value": str(share)}}


def _prometheus(spec: AgentSpec, query: str, threshold: int) -> Document:
    """Return a trigger that keeps the value of a query at `threshold` per pod."""
    metadata = {
        "serverAddress": spec.autoscaling.prometheus_address,
        "query": query,
        "threshold": str(threshold),
        # Otherwise KEDA treats an agent that is not scraped as one without load, and reports no problem.
        "ignoreNullValues": "false",
    }
    return {"type": "prometheus", "metadata": metadata}
