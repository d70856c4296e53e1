"""How many pods an agent has: autoscaling, workers, and what holds when pods are moved."""

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
    """An autoscaler for the agent's pods."""

    rules = (
        Rule(
            cel="self.minReplicas <= self.maxReplicas",
            message="autoscaling.minReplicas must not exceed autoscaling.maxReplicas: lower one or raise the other",
            holds=lambda scaling: scaling.min_replicas <= scaling.max_replicas,
            field="minReplicas",
        ),
    )

    enabled: bool = False
    """Whether the number of pods follows their load. If so, `replicas` has no say."""
    engine: Literal["hpa", "keda"] | None = None
    """Who scales, the workers too: `hpa`, also when not set, is a HorizontalPodAutoscaler, which gets requests in
    flight and tasks from an adapter; `keda` is a ScaledObject of KEDA, which asks Prometheus itself."""
    prometheus_address: HttpAddress | None = None
    """Address of the Prometheus that KEDA asks, such as http://prometheus.monitoring:9090."""
    min_replicas: AtLeastOne = 1
    """Fewest pods."""
    max_replicas: AtLeastOne = 10
    """Most pods."""
    target_cpu_utilization_percentage: _Share | None = Field(default=None, alias="targetCPUUtilizationPercentage")
    """CPU use to keep, in percent of the requested CPU; 70 when no target is set at all."""
    target_memory_utilization_percentage: _Share | None = None
    """Memory use to keep, in percent of the requested memory."""
    target_in_flight_requests: _Share | None = None
    """Requests in flight to keep in each pod, which says more of an agent's load than its CPU does. Needs the metric
    `agent_requests_in_flight` in the custom metrics API, as prometheus-adapter serves it, or `engine: keda`."""
    behavior: Annotated[dict[str, Any], AsWritten(ScalingBehavior)] | None = None
    """How fast pods are added and taken away, as `behavior` of autoscaling/v2 has it."""


class WorkerAutoscaling(Model):
    """An autoscaler for the workers, of the engine that `autoscaling.engine` says."""

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
    """Whether the number of workers follows the queue. If so, `worker.replicas` has no say."""
    min_replicas: AtLeastOne = 1
    """Fewest workers."""
    max_replicas: AtLeastOne = 10
    """Most workers."""
    target_queue_depth: Annotated[int, Field(ge=1, le=100_000)] = 10
    """Waiting tasks to keep for each worker. Needs the metric `agent_task_queue_depth` of the agent's Service in the
    custom metrics API, as prometheus-adapter serves it, or `autoscaling.engine: keda`."""
    behavior: Annotated[dict[str, Any], AsWritten(ScalingBehavior)] | None = None
    """How fast workers are added and taken away, as `behavior` of autoscaling/v2 has it."""


class Worker(Model):
    """Pods that work on the tasks of `POST /tasks`, apart from those that answer requests."""

    enabled: bool = False
    """Whether there are workers; else the agent's own pods work on tasks. Needs `redis`."""
    replicas: Replicas = 1
    """Number of workers while their autoscaling is off."""
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 8
    """Tasks that one worker works on at once."""
    resources: Resources | None = None
    """Compute resources of a worker; those of the agent when not set."""
    autoscaling: WorkerAutoscaling = WorkerAutoscaling()


class PodDisruptionBudget(Model):
    """How many pods may be away while nodes are drained. There is one as soon as there are two pods at least."""

    enabled: bool = True
    """Whether there is a budget."""
    max_unavailable: PodCount = 1
    """Pods that may be away: a number, or a share such as "25%"."""
    min_available: PodCount | None = None
    """Pods that must stay: a number, or a share such as "50%". It takes the place of `maxUnavailable`."""
