"""The status and the condition that the operator derives from what pods report of their agent's budget."""

from typing import Any

import pytest

from agent_operator.api.budget import Budget
from agent_operator.controller.reconcile.publish import news
from agent_operator.controller.status.budget import Used, judge_budget, status_of_budget
from agent_operator.controller.watch.pod_reports import percent_in, serving
from agent_operator.kube.resources import Key

DAY = Budget(period="day", tokens=1000)
LABELS = {
    "app.kubernetes.io/name": "portside-agent",
    "app.kubernetes.io/instance": "support",
    "app.kubernetes.io/component": "api",
}


@pytest.mark.parametrize(
    ("percent", "judged"),
    [
        (0, ("True", "BudgetLeft")),
        (79, ("True", "BudgetLeft")),
        (80, ("True", "NearlyUsedUp")),
        (99, ("True", "NearlyUsedUp")),
        (100, ("False", "BudgetUsedUp")),
        (250, ("False", "BudgetUsedUp")),
        (None, ("Unknown", "UsageNotReported")),
    ],
)
def test_the_condition_follows_the_used_share(percent: int | None, judged: tuple[str, str]) -> None:
    found = judge_budget(DAY, Used(percent), {})
    assert found is not None
    assert (found.status, found.reason) == judged


def test_the_message_is_unchanged_while_the_reason_is() -> None:
    assert judge_budget(DAY, Used(101), {}) == judge_budget(DAY, Used(150), {})


def test_the_message_explains_what_happens_next() -> None:
    stops, warns = (judge_budget(Budget(tokens=1, action=action), Used(100), {}) for action in ("stop", "warn"))
    assert stops is not None
    assert "429" in stops.message
    assert warns is not None
    assert "continues" in warns.message


def test_without_reports_the_number_is_kept_and_no_event_is_repeated() -> None:
    def status(percent: int | None, old: dict[str, Any]) -> dict[str, Any]:
        judged = judge_budget(DAY, Used(percent), old)
        assert judged is not None
        budget = {"type": "WithinBudget", "status": judged.status, "reason": judged.reason, "message": judged.message}
        degraded = {"type": "Degraded", "status": "False", "reason": "AsExpected", "message": ""}
        return {"budget": status_of_budget(DAY, Used(percent), old), "conditions": [degraded, budget]}

    used_up = status(120, {})
    untold = status(None, used_up)
    assert untold["budget"] == {"usedPercent": 120}
    assert [reason for _, reason, _ in news({}, used_up)] == ["BudgetUsedUp"]
    assert list(news(used_up, untold)) == []
    assert list(news(untold, status(125, untold))) == []
    assert [reason for _, reason, _ in news(status(10, untold), used_up)] == ["BudgetUsedUp"]


def test_an_agent_without_a_budget_has_no_condition() -> None:
    assert judge_budget(None, Used(0), {}) is None
    assert status_of_budget(None, Used(0), {"budget": {"usedPercent": 1}}) is None


def test_before_the_first_report_the_status_is_unchanged() -> None:
    budget = {"type": "WithinBudget", "status": "False", "reason": "BudgetUsedUp", "message": "Used up"}
    old = {"budget": {"usedPercent": 120}, "conditions": [budget]}
    found = judge_budget(DAY, None, old)
    assert found is not None
    assert (found.status, found.reason, found.message) == ("False", "BudgetUsedUp", "Used up")
    assert status_of_budget(DAY, None, old) == {"usedPercent": 120}
    assert judge_budget(DAY, None, {}) is None


@pytest.mark.parametrize(
    ("metrics", "percent"),
    [
        ("# HELP agent_budget_used_ratio Share.\nagent_budget_used_ratio 0.999\n", 99),
        ("agent_budget_used_ratio 1.0\nagent_up 1", 100),
        ("agent_budget_used_ratio_else 1.0\n", None),
        ("agent_budget_used_ratio NaN\n", None),
        ("agent_budget_used_ratio +Inf\n", None),
        ("agent_budget_used_ratio -5\n", None),
        ("agent_budget_used_ratio 1e300\n", None),
        ("agent_budget_used_ratio 1e5\n", 10_000_000),
        ("agent_budget_used_ratio\n", None),
        ("agent_budget_used_ratio \n", None),
        ("<html>", None),
        ("", None),
    ],
)
def test_the_share_is_read_from_the_metrics(metrics: str, percent: int | None) -> None:
    assert percent_in(metrics) == percent


def test_only_serving_pods_are_polled() -> None:
    def pod(address: str, **changes: Any) -> dict[str, Any]:
        ready = [{"type": "Ready", "status": "True"}]
        status = {"podIP": address, "conditions": ready}
        return {"metadata": {"labels": LABELS}, "status": status} | changes

    pods = [
        pod("10.0.0.1"),
        pod("10.0.0.2", metadata={"labels": LABELS, "deletionTimestamp": "2026-11-23T00:00:00Z"}),
        pod("10.0.0.3", metadata={"labels": {**LABELS, "app.kubernetes.io/component": "worker"}}),
        pod("10.0.0.4", status={"podIP": "10.0.0.4", "conditions": [{"type": "Ready", "status": "False"}]}),
        pod("", status={"conditions": [{"type": "Ready", "status": "True"}]}),
    ]
    assert serving(Key("team", "support"), pods) == ["10.0.0.1"]
