"""How many pods an agent has: autoscaling, workers, and limits while nodes are drained."""

from typing import Annotated, Any, Literal

from pydantic import Field

from agent_operator.api.base import Model
from agent_operator.api.core_v1 import PodCount, Resources
from agent_operator.api.kubernetes.autoscaling import ScalingBehavior
from agent_operator.api.kubernetes.part import AsWritten
from agent_operator.api.networking import HttpAddress
from agent_operator.api.rules import Rule

Replicas = Annotated[int, Field(ge=0, le=1000)]
AtLeastOne = Annotated[int, Field(ge=1, le=1000)]
_Share = Annotated[int, Field(ge=1, le=1000)]


class Autoscaling(Model):
    """Autoscaling of the agent's pods."""

    rules = (
        Rule(
            cel="self.minReplicas <= self.maxReplicas",
            message="autoscaling.minReplicas must not exceed autoscaling.maxReplicas: lower one or raise the other",
            holds=lambda scaling: scaling.min_replicas <= scaling.max_replicas,
            field="minReplicas",
        ),
    )

    enabled: bool = False
    """Whether the number of pods follows their load. If enabled, `replicas` has no effect."""
    engine: Literal["hpa", "keda"] | None = None
    """Autoscaler of the pods and of the workers. `hpa` (the default) is a HorizontalPodAutoscaler, which reads
    requests in flight and tasks from an adapter. `keda` is a ScaledObject of KEDA, which queries Prometheus itself."""
    prometheus_address: HttpAddress | None = None
    """Address of the Prometheus that KEDA queries, such as http://prometheus.monitoring:9090."""
    min_replicas: AtLeastOne = 1
    """Minimum number of pods."""
    max_replicas: AtLeastOne = 10
    """Maximum number of pods."""
    target_cpu_utilization_percentage: _Share | None = Field(default=None, alias="targetCPUUtilizationPercentage")
    """Target CPU utilization, in percent of the requested CPU. Defaults to 70 if no target is set."""
    target_memory_utilization_percentage: _Share | None = None
    """Target memory utilization, in percent of the requested memory."""
    target_in_flight_requests: _Share | None = None
    """Target number of requests in flight per pod, which reflects an agent's load better than its CPU does. Requires
    the metric `agent_requests_in_flight` in the custom metrics API, as served by prometheus-adapter, or `engine:
    keda`."""
    behavior: Annotated[dict[str, Any], AsWritten(ScalingBehavior)] | None = None
    """How fast pods are added and removed, in the form of `behavior` in autoscaling/v2."""


class WorkerAutoscaling(Model):
    """Autoscaling of the workers, with the engine set in `autoscaling.engine`."""

    rules = (
        Rule(
            cel="self.minReplicas <= self.maxReplicas",
            message="worker.autoscaling.minReplicas must not exceed worker.autoscaling.maxReplicas: "
            "lower one or raise the other",
            holds=lambda scaling: scaling.min_replicas <= scaling.max_replicas,
            field="minReplicas",
        ),
    )

    enabled: bool = False
    """Whether the number of workers follows the queue. If enabled, `worker.replicas` has no effect."""
    min_replicas: AtLeastOne = 1
    """Minimum number of workers."""
    max_replicas: AtLeastOne = 10
    """Maximum number of workers."""
    target_queue_depth: Annotated[int, Field(ge=1, le=100_000)] = 10
    """Target number of waiting tasks per worker. Requires the metric `agent_task_queue_depth` of the agent's Service
    in the custom metrics API, as served by prometheus-adapter, or `autoscaling.engine: keda`."""
    behavior: Annotated[dict[str, Any], AsWritten(ScalingBehavior)] | None = None
    """How fast workers are added and removed, in the form of `behavior` in autoscaling/v2."""


class Worker(Model):
    """Pods that process the tasks of `POST /tasks`, separate from the pods that answer requests."""

    enabled: bool = False
    """Whether workers are created. Requires `redis`. If disabled, the agent's own pods process tasks."""
    replicas: Replicas = 1
    """Number of workers while their autoscaling is disabled."""
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 8
    """Number of tasks that one worker processes concurrently."""
    resources: Resources | None = None
    """Compute resources of a worker. Defaults to those of the agent."""
    autoscaling: WorkerAutoscaling = WorkerAutoscaling()


class PodDisruptionBudget(Model):
    """How many pods may be unavailable while nodes are drained. A PodDisruptionBudget exists only for two or more
    pods."""

    enabled: bool = True
    """Whether a PodDisruptionBudget is created."""
    max_unavailable: PodCount = 1
    """Maximum number of unavailable pods: a number, or a percentage such as "25%"."""
    min_available: PodCount | None = None
    """Minimum number of available pods: a number, or a percentage such as "50%". It replaces `maxUnavailable`."""
