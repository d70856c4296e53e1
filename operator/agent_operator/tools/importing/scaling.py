"""Replicas, autoscaling, disruption budget and rollout of an agent from those of a workload."""

from collections.abc import Sequence
from typing import Any

from agent_operator.tools.importing.draft import Draft, object_of, objects_of
from agent_operator.tools.importing.network import title

_TARGETS = {"cpu": "targetCPUUtilizationPercentage", "memory": "targetMemoryUtilizationPercentage"}
_DEFAULT_ROLLOUT = {"maxSurge": "25%", "maxUnavailable": "25%"}


def convert_autoscaler(draft: Draft, autoscalers: Sequence[dict[str, Any]]) -> None:
    """Put the first HorizontalPodAutoscaler into the draft, and report the others."""
    for each in autoscalers[1:]:
        draft.lost(title(each), "an agent has one autoscaler")
    for each in autoscalers[:1]:
        source, spec = title(each), object_of(each.get("spec"))
        draft.spec.pop("replicas", None)
        draft.spec["autoscaling"] = {"enabled": True}
        least, most = spec.get("minReplicas"), spec.get("maxReplicas")
        draft.put("autoscaling.minReplicas", least, f"{source}: spec.minReplicas")
        draft.put("autoscaling.maxReplicas", most, f"{source}: spec.maxReplicas")
        # autoscaling/v1 has this field in place of metrics.
        draft.put(
            f"autoscaling.{_TARGETS['cpu']}",
            spec.get("targetCPUUtilizationPercentage"),
            f"{source}: spec.targetCPUUtilizationPercentage",
        )
        for index, metric in enumerate(objects_of(spec.get("metrics"))):
            _metric(draft, metric, f"{source}: spec.metrics[{index}]")
        draft.put("autoscaling.behavior", spec.get("behavior"), f"{source}: spec.behavior")


def _metric(draft: Draft, metric: dict[str, Any], source: str) -> None:
    resource = object_of(metric.get("resource"))
    field = _TARGETS.get(str(resource.get("name")))
    target = object_of(resource.get("target"))
    if field is not None and isinstance(target.get("averageUtilization"), int):
        draft.put(f"autoscaling.{field}", target["averageUtilization"], f"{source}.resource.target.averageUtilization")
        return
    draft.lost(
        source,
        "an agent scales by the utilization of CPU or memory, or by requests in flight: set "
        "autoscaling.targetInFlightRequests",
    )


def convert_budget(draft: Draft, budgets: Sequence[dict[str, Any]]) -> None:
    """Put the first PodDisruptionBudget into the draft, and report the others."""
    for each in budgets[1:]:
        draft.lost(title(each), "an agent has one PodDisruptionBudget")
    for each in budgets[:1]:
        source, spec = title(each), object_of(each.get("spec"))
        for field in ("maxUnavailable", "minAvailable"):
            draft.put(f"podDisruptionBudget.{field}", spec.get(field), f"{source}: spec.{field}")
        if spec.get("unhealthyPodEvictionPolicy"):
            draft.lost(f"{source}: spec.unhealthyPodEvictionPolicy", "an agent's budget has no such field")


def convert_rollout(draft: Draft, strategy: dict[str, Any], source: str) -> None:
    """Put the strategy of a Deployment into the draft. The one that the API server sets by default stays Portside's."""
    if strategy.get("type") == "Recreate":
        draft.put("rollout.strategy", "Recreate", f"{source}.type")
    given = object_of(strategy.get("rollingUpdate"))
    if given and given != _DEFAULT_ROLLOUT:
        for field in ("maxSurge", "maxUnavailable"):
            draft.put(f"rollout.{field}", given.get(field, _DEFAULT_ROLLOUT[field]), f"{source}.rollingUpdate.{field}")
