"""Whether an agent keeps to its budget, from what its pods told. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent_operator.api.budget import Budget
from agent_operator.controller.conditions import Judgement, condition
from agent_operator.manifests.form import Document

WITHIN_BUDGET = "WithinBudget"

# In percent: from here on users are told, so that it is no surprise.
NEARLY = 80
ALL = 100

_UNTOLD = (
    "No pod of the agent tells what was used: the operator reads it at their port 9090, so they have to be ready, and "
    "networkPolicy.scrapeFrom has to let it in"
)
_AFTERWARDS = {
    "stop": "requests are answered 429 and tasks wait until it ends, or until the budget is raised",
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
    if used.percent >= ALL:
        return Judgement(
            "False", "BudgetUsedUp", f"The budget of the {budget.period} is used up: {_AFTERWARDS[budget.action]}"
        )
    if used.percent >= NEARLY:
        return Judgement("True", "NearlyUsedUp", f"{NEARLY}% of the budget of the {budget.period} or more is used")
    return Judgement("True", "BudgetLeft", f"Less than {NEARLY}% of the budget of the {budget.period} is used")


def status_of_budget(budget: Budget | None, used: Used | None, old: Mapping[str, Any]) -> Document | None:
    """What the status says of the budget in numbers, or None when there is nothing to say."""
    if budget is None:
        return None
    if used is None:
        return old.get("budget")
    return None if used.percent is None else {"usedPercent": used.percent}
