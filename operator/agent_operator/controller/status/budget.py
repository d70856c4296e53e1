"""Whether an agent keeps to its budget, from what its pods told. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent_operator.api.budget import Budget
from agent_operator.kube.conditions import Judgement, condition
from agent_operator.manifests.document import Document

WITHIN_BUDGET = "WithinBudget"
USED_UP = "BudgetUsedUp"
NEARLY_USED_UP = "NearlyUsedUp"

# In percent: from here on users are told, so that it is no surprise.
NEARLY = 80
ALL = 100

_UNTOLD = (
    "No pod of the agent tells what was used: the operator reads it at their port 9090, so they have to be ready, to "
    "know it from Redis and to have the budget that is set now, and networkPolicy.scrapeFrom has to let it in"
)
_AFTERWARDS = {
    "stop": "until it ends or is raised, requests are answered 429 and tasks wait, or fail at their deadline",
    "warn": "the agent goes on, as budget.action is warn",
}


@dataclass(frozen=True)
class Used:
    """What a look at an agent's pods gave: how much of the budget is used, in whole percent; None when none told."""

    percent: int | None


def judge_budget(budget: Budget | None, used: Used | None, old: Mapping[str, Any]) -> Judgement | None:
    """Whether the agent keeps to its budget; None when it has none.

    Before the first look (`used` is None) what the status said before (`old`) holds.
    """
    if budget is None:
        return None
    if used is None:
        before = condition(old, WITHIN_BUDGET)
        return Judgement(before["status"], before["reason"], before["message"]) if before else None
    if used.percent is None:
        return Judgement("Unknown", "NotTold", _UNTOLD)
    reason = _reason(used.percent)
    if reason == USED_UP:
        return Judgement("False", reason, f"The budget of the {budget.period} is used up: {_AFTERWARDS[budget.action]}")
    if reason == NEARLY_USED_UP:
        return Judgement("True", reason, f"{NEARLY}% of the budget of the {budget.period} or more is used")
    return Judgement("True", reason, f"Less than {NEARLY}% of the budget of the {budget.period} is used")


def status_of_budget(budget: Budget | None, used: Used | None, old: Mapping[str, Any]) -> Document | None:
    """What the status says of the budget in numbers, or None when there is nothing to say. While no pod tells, that is
    what was told last."""
    if budget is None:
        return None
    if used is None or used.percent is None:
        return old.get("budget")
    return {"usedPercent": used.percent}


def last_reason(status: Mapping[str, Any]) -> str | None:
    """How the agent kept to its budget when that was told last; None when it never was."""
    percent = (status.get("budget") or {}).get("usedPercent")
    return None if percent is None else _reason(percent)


def _reason(percent: int) -> str:
    if percent >= ALL:
        return USED_UP
    return NEARLY_USED_UP if percent >= NEARLY else "BudgetLeft"
