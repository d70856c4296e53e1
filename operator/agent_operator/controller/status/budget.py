"""Whether an agent stays within its budget, from what its pods report. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent_operator.api.budget import Budget
from agent_operator.kube.conditions import Judgement, condition
from agent_operator.manifests.document import Document

WITHIN_BUDGET = "WithinBudget"
USED_UP = "BudgetUsedUp"
NEARLY_USED_UP = "NearlyUsedUp"

# In percent: from this share on the status warns users, so that they are not surprised.
NEARLY = 80
ALL = 100

_USAGE_NOT_REPORTED = (
    "No pod of the agent reports how much of the budget is used. The operator reads it from port 9090 of the pods: "
    "they must be ready, have read it from Redis and have the current budget, and networkPolicy.scrapeFrom must allow "
    "the operator"
)
_AFTERWARDS = {
    "stop": "until it ends or is raised, requests are answered with 429 and tasks wait, or fail at their deadline",
    "warn": "the agent continues, because budget.action is warn",
}


@dataclass(frozen=True)
class Used:
    """The result of polling an agent's pods: the used share of the budget in whole percent; None if none reported."""

    percent: int | None


def judge_budget(budget: Budget | None, used: Used | None, old: Mapping[str, Any]) -> Judgement | None:
    """Return whether the agent stays within its budget; None if it has none.

    Before the first poll (`used` is None) the condition of the previous status (`old`) is kept.
    """
    if budget is None or not budget.limits_agent:
        return None
    if used is None:
        before = condition(old, WITHIN_BUDGET)
        return Judgement(before["status"], before["reason"], before["message"]) if before else None
    if used.percent is None:
        return Judgement("Unknown", "UsageNotReported", _USAGE_NOT_REPORTED)
    reason = _reason(used.percent)
    if reason == USED_UP:
        return Judgement("False", reason, f"The budget of the {budget.period} is used up: {_AFTERWARDS[budget.action]}")
    if reason == NEARLY_USED_UP:
        return Judgement("True", reason, f"At least {NEARLY}% of the budget of the {budget.period} is used")
    return Judgement("True", reason, f"Less than {NEARLY}% of the budget of the {budget.period} is used")


def status_of_budget(budget: Budget | None, used: Used | None, old: Mapping[str, Any]) -> Document | None:
    """Return the numbers of the budget for the status, or None if there are none.

    While no pod reports, these are the last reported numbers.
    """
    if budget is None or not budget.limits_agent:
        return None
    if used is None or used.percent is None:
        return old.get("budget")
    return {"usedPercent": used.percent}


def last_reason(status: Mapping[str, Any]) -> str | None:
    """Return the reason for the last reported use of the budget; None if it was never reported."""
    percent = (status.get("budget") or {}).get("usedPercent")
    return None if percent is None else _reason(percent)


def _reason(percent: int) -> str:
    if percent >= ALL:
        return USED_UP
    return NEARLY_USED_UP if percent >= NEARLY else "BudgetLeft"
