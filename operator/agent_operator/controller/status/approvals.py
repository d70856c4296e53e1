"""The turns of an agent that wait for the approval of tool calls, from what its pods report. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agent_operator.api.tools import Tool
from agent_operator.kube.resources import Key

WAITING = "ApprovalsWaiting"

# A higher number is not plausible. A pod runs the user's code, which may report anything.
_MOST = 10**9
_SERIES = re.compile(r"^agent_approvals_waiting ([0-9.]{1,16}(?:e\+[0-9]{1,2})?)$", re.MULTILINE)


def waiting_in(metrics: str) -> int | None:
    """Return the number of turns that wait, from metrics in Prometheus' text format; None if it is not reported."""
    found = _SERIES.search(metrics)
    try:
        return None if found is None else min(int(float(found[1])), _MOST)
    except ValueError:
        return None


def status_of_approvals(tools: Sequence[Tool], reported: int | None, old: Mapping[str, Any]) -> int | None:
    """Return the number for the status; None for an agent without tools that need an approval.

    While no pod reports, it is the number in the previous status (`old`).
    """
    if not any(tool.approve for tool in tools):
        return None
    return old.get("approvalsWaiting") if reported is None else reported


def news_of_approvals(agent: Key, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield an Event (type, reason, message) when turns wait and none waited before."""
    count = new.get("approvalsWaiting")
    if count and not old.get("approvalsWaiting"):
        turns = "1 turn waits" if count == 1 else f"{count} turns wait"
        command = f"kubectl agent approvals {agent.name} -n {agent.namespace}"
        yield "Normal", WAITING, f"{turns} for the approval of tool calls, which `{command}` lists"
