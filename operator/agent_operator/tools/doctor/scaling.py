"""Findings about autoscaling: whether the number of pods follows the load. Pure."""

from collections.abc import Iterator

from agent_operator.controller.status.scaling import missing_metrics
from agent_operator.kube.conditions import condition
from agent_operator.manifests.document import Document
from agent_operator.tools.doctor.evidence import Evidence
from agent_operator.tools.doctor.report import Finding, State

_METRICS = {
    "FailedGetResourceMetric": "install metrics-server, and set resource requests for what is measured",
    "FailedGetPodsMetric": "install prometheus-adapter (or another server of custom.metrics.k8s.io) with that metric",
    "FailedGetObjectMetric": "install prometheus-adapter (or another server of custom.metrics.k8s.io) with that metric",
    "FailedGetExternalMetric": "check that KEDA is running and reaches the Prometheus of autoscaling.prometheusAddress",
}


def scaling_findings(evidence: Evidence) -> Iterator[Finding]:
    """Yield the problems of autoscalers. The existing pods serve regardless."""
    for scaler in _scalers(evidence):
        name, status = scaler["metadata"]["name"], scaler.get("status", {})
        active, able = condition(status, "ScalingActive"), condition(status, "AbleToScale")
        for state in (able, active):
            if state.get("status") == "False":
                reason = str(state.get("reason", ""))
                yield Finding(
                    "scaling",
                    "NoMetrics" if reason in _METRICS else reason or "ScalingStopped",
                    f"HorizontalPodAutoscaler {name} does not scale: {state.get('message', '')}",
                    _METRICS.get(reason, f"kubectl describe hpa {name} -n {evidence.namespace}"),
                    note=True,
                )
        missing = ", ".join(missing_metrics(scaler)) if active.get("status") == "True" else ""
        if missing:
            yield Finding(
                "scaling",
                "NoMetrics",
                f"HorizontalPodAutoscaler {name} gets no value for {missing}, and scales only on the other metrics",
                f"kubectl describe hpa {name} -n {evidence.namespace}",
                note=True,
            )
        limited = condition(status, "ScalingLimited")
        if limited.get("status") == "True" and limited.get("reason") == "TooManyReplicas":
            yield Finding(
                "scaling",
                "AtMaximum",
                f"HorizontalPodAutoscaler {name} desires more replicas than its maximum",
                "raise maxReplicas",
                note=True,
            )


def scaling_summary(evidence: Evidence) -> tuple[State, str]:
    """Return the state of scaling, with a message."""
    if "horizontalpodautoscalers" in evidence.unseen:
        return "unknown", "autoscalers could not be read"
    scalers = _scalers(evidence)
    if not scalers:
        return "ok", "autoscaling is off"
    dead = [each for each in scalers if condition(each.get("status", {}), "ScalingActive").get("status") == "False"]
    known = all(condition(each.get("status", {}), "ScalingActive") for each in scalers)
    return ("wrong" if dead else "ok" if known else "unknown"), "; ".join(
        f"{each['metadata']['name']}: {each.get('status', {}).get('currentReplicas', 0)} pods, "
        f"{each['spec'].get('minReplicas', 1)} to {each['spec']['maxReplicas']}"
        for each in scalers
    )


def _scalers(evidence: Evidence) -> list[Document]:
    return [each for (kind, _), each in sorted(evidence.objects.items()) if kind == "HorizontalPodAutoscaler"]
