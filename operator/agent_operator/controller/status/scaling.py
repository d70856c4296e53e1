"""Whether the autoscalers of an agent work, from what the cluster's own controller reports of them. Pure.

Kubernetes: "Horizontal Pod Autoscaling", "Appendix: Horizontal Pod Autoscaler Status Conditions".
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agent_operator.kube.conditions import Judgement, condition
from agent_operator.kube.resources import SCALED_OBJECT
from agent_operator.manifests.document import Document

# What a cluster usually lacks when the controller reports this reason.
_ADVICE = {
    "FailedGetResourceMetric": "this needs metrics-server, and pods that are ready",
    "FailedGetPodsMetric": "this needs an adapter that serves the metric in custom.metrics.k8s.io",
    "FailedGetObjectMetric": "this needs an adapter that serves the metric in custom.metrics.k8s.io",
    "FailedGetExternalMetric": "this needs KEDA, and the Prometheus that autoscaling.prometheusAddress names",
}


@dataclass(frozen=True)
class Scaled:
    """A scaled Deployment of an agent: the name of its pods in messages, and its autoscaler if there is one.

    While KEDA has not yet made the autoscaler, `autoscaler` is the ScaledObject.
    """

    pods: str
    autoscaler: Document | None


def judge_scaling(scaled: Sequence[Scaled]) -> Judgement | None:
    """Return whether every autoscaler gets the values of all its metrics; None if nothing is scaled."""
    if not scaled:
        return None
    found = [_judge(each) for each in scaled]
    worst = next((each for truth in ("False", "Unknown") for each in found if each.status == truth), None)
    return worst or Judgement("True", "MetricsFound", "The autoscaler has the values of all its metrics")


def _judge(scaled: Scaled) -> Judgement:
    if (scaled.autoscaler or {}).get("kind") == SCALED_OBJECT.kind:
        return _judge_scaled_object(scaled)
    status = (scaled.autoscaler or {}).get("status", {})
    active = condition(status, "ScalingActive")
    if scaled.autoscaler is None or not active:
        return Judgement(
            "Unknown", "AwaitingAutoscaler", f"The autoscaler of the {scaled.pods} has not checked its metrics yet"
        )
    if active["status"] != "True":
        reason, cause = active.get("reason") or "ScalingStopped", active.get("message", "")
        advice = f" ({_ADVICE[reason]})" if reason in _ADVICE else ""
        return Judgement("False", reason, f"The number of {scaled.pods} does not follow their load{advice}: {cause}")
    missing = ", ".join(missing_metrics(scaled.autoscaler))
    if missing:
        message = f"The number of {scaled.pods} does not follow {missing}: no value is available"
        return Judgement("False", "MetricMissing", message)
    return Judgement("True", "MetricsFound", "")


def _judge_scaled_object(scaled: Scaled) -> Judgement:
    """Return why KEDA has made no autoscaler, from its own conditions (keda.sh/v1alpha1, condition_types.go)."""
    status = (scaled.autoscaler or {}).get("status", {})
    ready, paused = condition(status, "Ready"), condition(status, "Paused")
    if paused.get("status") == "True":
        message = f"KEDA is paused by annotations of the ScaledObject: the number of {scaled.pods} stays the same"
        return Judgement("False", "ScaledObjectPaused", message)
    if ready.get("status") == "False":
        message = f"KEDA does not scale the {scaled.pods}: {ready.get('message', '')}"
        return Judgement("False", "ScaledObjectNotReady", message)
    message = (
        f"KEDA has not created the autoscaler of the {scaled.pods} yet: if it never does, its operator does not run"
    )
    return Judgement("Unknown", "AwaitingAutoscaler", message)


def missing_metrics(autoscaler: Document) -> Iterator[str]:
    """Yield the metrics without a value while other metrics have one.

    The controller continues with those that have one, and reports that as active. It leaves the entry of a missing
    metric in `currentMetrics` empty (podautoscaler, computeReplicasForMetrics).
    """
    wanted = autoscaler["spec"].get("metrics") or []
    current = autoscaler.get("status", {}).get("currentMetrics") or []
    for metric, value in zip(wanted, current, strict=False):
        if not value.get("type"):
            yield _name(metric)


def _name(metric: Document) -> str:
    """Return the name of what a metric measures, regardless of its type."""
    source: Document = next((value for key, value in metric.items() if key != "type"), {})
    name: str = source.get("name") or source.get("metric", {}).get("name", "a metric")
    return name
