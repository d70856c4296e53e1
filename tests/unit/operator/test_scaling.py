"""The condition about an agent's autoscalers, derived from the status that the cluster's controller publishes."""

from typing import Any

import pytest

from agent_operator.controller.metrics import Metrics
from agent_operator.controller.status.scaling import Scaled, judge_scaling
from agent_operator.kube.cache import AgentState
from agent_operator.kube.resources import Key

Document = dict[str, Any]

CPU = {"type": "Resource", "resource": {"name": "cpu"}}
IN_FLIGHT = {"type": "Pods", "pods": {"metric": {"name": "agent_requests_in_flight"}}}
# What the controller writes in place of a metric without a value.
NONE = {"type": ""}


def autoscaler(*current: Document, active: str = "True", reason: str = "ValidMetricFound", said: str = "") -> Document:
    condition = {"type": "ScalingActive", "status": active, "reason": reason, "message": said}
    return {
        "spec": {"metrics": [CPU, IN_FLIGHT]},
        "status": {"conditions": [condition], "currentMetrics": list(current)},
    }


def judged(*scaled: Document | None) -> tuple[str, str]:
    found = judge_scaling([Scaled(pods, each) for pods, each in zip(("pods", "workers"), scaled, strict=False)])
    assert found is not None
    return found.status, found.reason


def test_an_agent_without_autoscaling_has_no_such_condition() -> None:
    assert judge_scaling([]) is None


@pytest.mark.parametrize("there", [None, {"spec": {}}, {"spec": {}, "status": {"conditions": []}}])
def test_an_autoscaler_without_a_status_is_unknown(there: Document | None) -> None:
    assert judged(there) == ("Unknown", "AwaitingAutoscaler")


def scaled_object(**conditions: str) -> Document:
    """Return a ScaledObject as KEDA leaves it when it creates no autoscaler for it."""
    said = [{"type": name, "status": status, "message": f"{name} it says"} for name, status in conditions.items()]
    return {"kind": "ScaledObject", "spec": {}, **({"status": {"conditions": said}} if said else {})}


@pytest.mark.parametrize(
    ("there", "judgement", "said"),
    [
        (scaled_object(), ("Unknown", "AwaitingAutoscaler"), "its operator does not run"),
        (scaled_object(Ready="Unknown"), ("Unknown", "AwaitingAutoscaler"), "its operator does not run"),
        (scaled_object(Ready="True", Paused="False"), ("Unknown", "AwaitingAutoscaler"), "its operator does not run"),
        (scaled_object(Ready="False"), ("False", "ScaledObjectNotReady"), "Ready it says"),
        (scaled_object(Ready="True", Paused="True"), ("False", "ScaledObjectPaused"), "paused by annotations"),
    ],
)
def test_while_keda_creates_no_autoscaler_the_reason_is_reported(
    there: Document, judgement: tuple[str, str], said: str
) -> None:
    found = judge_scaling([Scaled("pods", there)])
    assert found is not None
    assert (found.status, found.reason) == judgement
    assert said in found.message


def test_all_metrics_have_values() -> None:
    assert judged(autoscaler(CPU, IN_FLIGHT)) == ("True", "MetricsFound")


def test_a_lack_of_all_metrics_is_reported_with_the_message_of_the_controller() -> None:
    lost = autoscaler(NONE, NONE, active="False", reason="FailedGetPodsMetric", said="no custom metrics API")
    found = judge_scaling([Scaled("pods", lost)])
    assert found is not None
    assert (found.status, found.reason) == ("False", "FailedGetPodsMetric")
    assert "custom.metrics.k8s.io" in found.message
    assert found.message.endswith("no custom metrics API")


def test_one_missing_metric_of_several_is_named_though_the_controller_is_active() -> None:
    found = judge_scaling([Scaled("pods", autoscaler(CPU, NONE))])
    assert found is not None
    assert (found.status, found.reason) == ("False", "MetricMissing")
    assert "agent_requests_in_flight" in found.message
    assert "cpu" not in found.message


def test_the_worst_state_of_agents_and_workers_counts() -> None:
    well, lost = autoscaler(CPU, IN_FLIGHT), autoscaler(active="False", reason="FailedGetObjectMetric")
    assert judged(well, lost) == ("False", "FailedGetObjectMetric")
    assert judged(lost, well) == ("False", "FailedGetObjectMetric")
    assert judged(well, None) == ("Unknown", "AwaitingAutoscaler")
    assert judged(None, lost) == ("False", "FailedGetObjectMetric")


def test_agents_are_counted_by_their_conditions() -> None:
    metrics = Metrics()
    ready, new = frozenset({("Ready", "True"), ("ScalingActive", "False")}), frozenset[tuple[str, str]]()
    unknown = frozenset({("Ready", "False"), ("ScalingActive", "Unknown"), ("Degraded", "True")})
    agents = {"one": ready, "two": ready, "new": new, "lost": unknown}
    metrics.watch_agents(lambda: [(Key("team", name), AgentState(found, 2)) for name, found in agents.items()])

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"agent_operator_{name}", labels)

    assert value("agents", condition="Ready") == 2
    assert value("agents", condition="ScalingActive") == 0
    assert value("agents_not_ready") == 2
    assert value("agents_not_scaling") == 3

    def conditions(agent: str) -> dict[str, float | None]:
        labels = {"agent_namespace": "team", "agent": agent}
        found = {
            each: value("agent_condition", condition=each, **labels) for each in ("Ready", "Degraded", "ScalingActive")
        }
        return {name: number for name, number in found.items() if number is not None}

    assert conditions("one") == {"Ready": 1, "Degraded": 0, "ScalingActive": 0}
    assert conditions("new") == {"Ready": 0, "Degraded": 0}
    assert conditions("lost") == {"Ready": 0, "Degraded": 1, "ScalingActive": 0}, "without the condition: not scaled"
    pods = {"agent_namespace": "team", "agent": "one"}
    assert value("agent_ready_pods", **pods) == 2
    del agents["one"]
    assert conditions("one") == {}
    assert value("agent_ready_pods", **pods) is None
