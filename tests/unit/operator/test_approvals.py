"""What the operator publishes of turns that wait for approvals."""

from typing import Any

import pytest

from agent_operator.api.reasons import REASONS
from agent_operator.api.tools import Tool
from agent_operator.controller.status.approvals import news_of_approvals, status_of_approvals, waiting_in
from agent_operator.kube.resources import Key

KEY = Key("harbor", "pilot")
WEB: dict[str, Any] = {"name": "web", "mcp": {"url": "https://mcp.example.com/mcp"}}


def tools(**fields: Any) -> list[Tool]:
    return [Tool.model_validate({**WEB, **fields})]


@pytest.mark.parametrize(
    ("metrics", "count"),
    [
        ("agent_approvals_waiting 2.0\n", 2),
        ("# HELP agent_approvals_waiting a\nagent_approvals_waiting 0.0\n", 0),
        ("agent_approvals_waiting 1e+15\n", 10**9),
        ("agent_approvals_waiting NaN\n", None),
        ("agent_approvals_waiting -1\n", None),
        ("agent_approvals_waiting 1.2.3\n", None),
        ('agent_approvals_waiting{pod="a"} 2.0\n', None),
        ("agent_approvals_waiting_else 2.0\n", None),
        ("", None),
    ],
)
def test_the_number_is_that_of_the_metric(metrics: str, count: int | None) -> None:
    assert waiting_in(metrics) == count


def test_the_status_has_the_number_only_for_an_agent_with_tools_that_need_an_approval() -> None:
    assert status_of_approvals(tools(approve=["a"]), 2, {}) == 2
    assert status_of_approvals(tools(approve=[]), 2, {"approvalsWaiting": 1}) is None
    assert status_of_approvals([], 2, {}) is None


def test_the_status_keeps_the_number_while_no_pod_reports() -> None:
    assert status_of_approvals(tools(approve=["a"]), None, {"approvalsWaiting": 2}) == 2
    assert status_of_approvals(tools(approve=["a"]), None, {}) is None


def test_an_event_names_the_number_and_the_command() -> None:
    ((kind, reason, message),) = news_of_approvals(KEY, {}, {"approvalsWaiting": 3})

    assert (kind, reason) == ("Normal", "ApprovalsWaiting")
    assert reason in REASONS
    assert message.startswith("3 turns wait for the approval of tool calls")
    assert "kubectl agent approvals pilot -n harbor" in message


@pytest.mark.parametrize(
    ("old", "new", "events"),
    [(None, 0, 0), (0, 1, 1), (1, 2, 0), (2, 1, 0), (2, 0, 0), (0, 2, 1), (1, None, 0), (None, None, 0)],
)
def test_an_event_is_posted_only_when_none_waited_before(old: int | None, new: int | None, events: int) -> None:
    def status(count: int | None) -> dict[str, int]:
        return {} if count is None else {"approvalsWaiting": count}

    assert len(list(news_of_approvals(KEY, status(old), status(new)))) == events
