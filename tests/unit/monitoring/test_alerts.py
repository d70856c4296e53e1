"""The alerts: each fires when it should and is quiet when it should not, by promtool, and has a runbook."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_operator.controller.budget import NEARLY
from testbed import paths, system

ALERTS = paths.REPOSITORY / "helm" / "agent-operator" / "files" / "alerts.yaml"
PLAIN = paths.REPOSITORY / "manifests" / "monitoring" / "alerts.yaml"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
]
RUNBOOKS = (paths.REPOSITORY / "docs" / "runbooks.md").read_text()
OF = 'namespace="team-a", service="support"'
REQUESTS = f"agent_http_requests_total{{{OF}"
# One operator that leads and one that waits, as it should be.
LEADER = {'agent_operator_is_leader{namespace="o", service="op", pod="a"}': "1x800"}
WAITING = {'agent_operator_is_leader{namespace="o", service="op", pod="b"}': "0x800"}
OPERATORS = LEADER | WAITING


def chats(good: int, bad: int) -> dict[str, str]:
    """Answers a minute."""
    return {
        f'{REQUESTS}, route="/chat", status="200"}}': f"0+{good}x800",
        f'{REQUESTS}, route="/chat", status="503"}}': f"0+{bad}x800",
    }


def slow(metric: str, labels: str, limit: str, fast: int, every: int) -> dict[str, str]:
    """Of `every` a minute `fast` are within the limit."""
    return {
        f'{metric}_bucket{{{OF}{labels}, le="{limit}"}}': f"0+{fast}x800",
        f"{metric}_count{{{OF}{labels}}}": f"0+{every}x800",
    }


def turns(outcome: str, good: int, bad: int) -> dict[str, str]:
    series = f'agent_model_requests_total{{{OF}, model="m"'
    return {f'{series}, outcome="ok"}}': f"0+{good}x800", f'{series}, outcome="{outcome}"}}': f"0+{bad}x800"}


def queue(depth: str, running: int) -> dict[str, str]:
    return {f"agent_task_queue_depth{{{OF}}}": depth, f'agent_tasks{{{OF}, state="running"}}': f"{running}x800"}


def used(share: str) -> dict[str, str]:
    """Of the budget."""
    return {f"agent_budget_used_ratio{{{OF}}}": share}


def waiting(reason: str) -> dict[str, str]:
    labels = f'namespace="team-a", pod="support-1", container="agent", reason="{reason}"'
    return {f"kube_pod_container_status_waiting_reason{{{labels}}}": "1x800"}


def operator(metric: str, labels: str, values: str) -> dict[str, str]:
    return {f'{metric}{{namespace="o", service="op", {labels}}}': values}


ANSWERS = ("agent_http_request_duration_seconds", ', route="/chat"', "30.0")
FIRST = ("agent_stream_first_token_seconds", "", "5.0")
PROBES = {f'{REQUESTS}, route="/health/ready", status="503"}}': "0+100x800"}

# What is there besides the operators, at which minute it is looked at, and what fires then.
CASES: dict[str, tuple[dict[str, str], int, set[str]]] = {
    "all is well": (chats(100, 0) | turns("rate_limited", 100, 0), 400, set()),
    "one answer in 500 fails": (chats(499, 1), 400, set()),
    "one answer in 10 fails": (chats(90, 10), 400, {"AgentErrorBudgetBurnsSlow"}),
    "every other answer fails": (chats(50, 50), 400, {"AgentErrorBudgetBurnsFast", "AgentErrorBudgetBurnsSlow"}),
    "probes of a draining pod are no errors": (chats(100, 0) | PROBES, 400, set()),
    "one answer in 50 is slow": (slow(*ANSWERS, 98, 100), 400, set()),
    "four answers in ten are slow": (slow(*ANSWERS, 60, 100), 400, {"AgentLatencyBudgetBurnsSlow"}),
    "nearly all answers are slow": (
        slow(*ANSWERS, 10, 100),
        400,
        {"AgentLatencyBudgetBurnsFast", "AgentLatencyBudgetBurnsSlow"},
    ),
    "one stream in 50 begins late": (slow(*FIRST, 98, 100), 400, set()),
    "four streams in ten begin late": (slow(*FIRST, 60, 100), 400, {"AgentFirstTokenBudgetBurnsSlow"}),
    "nearly all streams begin late": (
        slow(*FIRST, 10, 100),
        400,
        {"AgentFirstTokenBudgetBurnsFast", "AgentFirstTokenBudgetBurnsSlow"},
    ),
    "one turn in ten is throttled": (turns("rate_limited", 90, 10), 30, {"AgentModelThrottled"}),
    "one turn in ten finds the model overloaded": (turns("overloaded", 90, 10), 30, {"AgentModelThrottled"}),
    "one turn in a hundred is throttled": (turns("rate_limited", 99, 1), 30, set()),
    "turns are throttled for a moment": (turns("rate_limited", 50, 50), 5, set()),
    "most of the budget is used": (used("0.9x800"), 30, {"AgentBudgetNearlyUsedUp"}),
    "all of the budget is used": (used("1.1x800"), 30, {"AgentBudgetUsedUp"}),
    "half of the budget is used": (used("0.5x800"), 30, set()),
    "a day's budget is used up and the next day comes": (used("1.1x5 0x800"), 30, set()),
    "the key is refused": (turns("credentials_refused", 10, 1), 30, {"AgentCredentialsRefused"}),
    "tasks wait and none runs": (queue("3x800", 0), 30, {"AgentQueueStuck"}),
    "tasks wait and some run": (queue("3x800", 2), 30, set()),
    "no task waits": (queue("0x800", 0), 30, set()),
    "ever more tasks wait": (queue("200+5x800", 8), 90, {"AgentQueueGrows"}),
    "ever fewer tasks wait": (queue("5000-5x800", 8), 90, set()),
    "a pod crashes again and again": (waiting("CrashLoopBackOff"), 30, {"AgentCrashLoops"}),
    "a pod is being made": (waiting("ContainerCreating"), 30, set()),
    "agents are degraded": (
        operator("agent_operator_agents", 'condition="Degraded"', "2x800"),
        30,
        {"AgentsDegraded"},
    ),
    "agents are not ready": (operator("agent_operator_agents_not_ready", 'pod="a"', "1x800"), 30, {"AgentsNotReady"}),
    "agents are rolled out": (operator("agent_operator_agents_not_ready", 'pod="a"', "1x10 0x800"), 30, set()),
    "agents do not scale": (
        operator("agent_operator_agents_not_scaling", 'pod="a"', "3x800"),
        30,
        {"AgentsNotScaling"},
    ),
    "agents are ready": (
        operator("agent_operator_agents", 'condition="Ready"', "2x800")
        | operator("agent_operator_agents", 'condition="Degraded"', "0x800")
        | operator("agent_operator_agents_not_ready", 'pod="a"', "0x800")
        | operator("agent_operator_agents_not_scaling", 'pod="a"', "0x800"),
        30,
        set(),
    ),
    "looks at agents fail": (
        operator("agent_operator_reconciles_total", 'result="error"', "0+1x800"),
        40,
        {"AgentOperatorReconcileFails"},
    ),
    "looks at agents succeed": (
        operator("agent_operator_reconciles_total", 'result="success"', "0+100x800"),
        40,
        set(),
    ),
    "watches are cut each minute": (
        operator("agent_operator_watch_restarts_total", 'kind="Service"', "0+1x800"),
        60,
        {"AgentOperatorWatchesCut"},
    ),
    "watches begin anew every five minutes": (
        operator("agent_operator_watch_restarts_total", 'kind="Service"', "0+0.2x800"),
        60,
        set(),
    ),
}
# The same about the operators themselves.
OF_OPERATORS: dict[str, tuple[dict[str, str], int, set[str]]] = {
    "no operator is there": ({}, 30, {"AgentOperatorDown"}),
    "no operator leads": (WAITING, 30, {"AgentOperatorNoLeader"}),
    "two operators lead": (
        LEADER | {'agent_operator_is_leader{namespace="o", service="op", pod="c"}': "1x800"},
        30,
        {"AgentOperatorSeveralLeaders"},
    ),
    "one operator takes over from the other": (
        {
            'agent_operator_is_leader{namespace="o", service="op", pod="a"}': "1x20 0x800",
            'agent_operator_is_leader{namespace="o", service="op", pod="b"}': "0x21 1x800",
        },
        22,
        set(),
    ),
}
ALL = {name: (OPERATORS | series, at, fires) for name, (series, at, fires) in CASES.items()} | OF_OPERATORS


@pytest.mark.parametrize(("series", "minute", "firing"), ALL.values(), ids=ALL.keys())
def test_what_fires(tmp_path: Path, series: dict[str, str], minute: int, firing: set[str]) -> None:
    given = [{"series": name, "values": values} for name, values in series.items()]
    expected = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(firing)]
    look = {
        "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
        "eval_time": f"{minute}m",
        "exp_samples": expected,
    }
    test = {"interval": "1m", "input_series": given, "promql_expr_test": [look]}
    file = tmp_path / "test.yaml"
    file.write_text(json.dumps({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": [test]}))
    done = _promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", [ALERTS, PLAIN], ids=["chart", "plain"])
def test_promtool_takes_the_rules_as_they_are(file: Path) -> None:
    done = _promtool("check", "rules", "--lint=all", "--lint-fatal", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried_both_ways() -> None:
    alerts = {rule["alert"] for rule in RULES if "alert" in rule}
    assert alerts == {name for _, _, firing in ALL.values() for name in firing}
    assert any(not firing for _, _, firing in ALL.values())


@pytest.mark.parametrize("rule", [rule for rule in RULES if "alert" in rule], ids=lambda rule: rule["alert"])
def test_an_alert_says_what_is_wrong_and_has_a_runbook(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert {"summary", "description", "runbook_url"} == set(rule["annotations"])
    headings = [heading.lower() for heading in re.findall(r"^## (\w+)$", RUNBOOKS, re.MULTILINE)]
    assert rule["annotations"]["runbook_url"] == f"RUNBOOKS#{rule['alert'].lower()}"
    assert rule["alert"].lower() in headings


def test_the_alert_and_the_operator_warn_of_a_budget_at_the_same_share() -> None:
    [rule] = [each for each in RULES if each.get("alert") == "AgentBudgetNearlyUsedUp"]
    assert f">= {NEARLY / 100})" in rule["expr"]


def test_what_a_runbook_looks_for_in_a_log_is_written_there() -> None:
    words = re.findall(r"grep '([^']+)'", RUNBOOKS)
    code = [each for part in ("service", "operator") for each in (paths.REPOSITORY / part).rglob("*.py")]
    sources = "".join(each.read_text() for each in code)
    assert words
    assert [each for each in words if each not in sources] == []


def _promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(system.unpacked("prometheus", "usr/bin/promtool")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
