"""The alerts: each fires when it should and not otherwise, checked by promtool, and has a runbook."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_operator.controller.status.budget import NEARLY
from support.promtool import promtool
from testbed import paths

ALERTS = paths.REPOSITORY / "helm" / "agent-operator" / "files" / "alerts.yaml"
PLAIN = paths.REPOSITORY / "manifests" / "monitoring" / "alerts.yaml"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
]
RUNBOOKS = (paths.REPOSITORY / "docs" / "how-to" / "alerts.md").read_text()
OF = 'namespace="team-a", service="support"'
# Seconds between two scrapes: none is at 5, 15, 25 minutes.
SPARSE = 40
# One leader and one standby operator, the desired state.
LEADER = {'agent_operator_is_leader{namespace="o", service="op", pod="a"}': "1x800"}
WAITING = {'agent_operator_is_leader{namespace="o", service="op", pod="b"}': "0x800"}
OPERATORS = LEADER | WAITING
# The values that the chart substitutes for these placeholders.
RELEASE = {"OPERATOR_NAMESPACE": "o", "OPERATOR_NAME": "op"}

Series = dict[str, str]
"""Values, in promtool's notation and one a minute, by series."""


def requests(status: str, values: str, *, method: str = "POST", route: str = "/chat", of: str = OF) -> Series:
    return {f'agent_http_requests_total{{{of}, method="{method}", route="{route}", status="{status}"}}': values}


def chats(good: int, bad: int, of: str = OF) -> Series:
    """Return answers, by rates per minute."""
    return requests("200", f"0+{good}x800", of=of) | requests("503", f"0+{bad}x800", of=of)


def streams(good: int, broken: int) -> Series:
    """Return streams, by rates per minute; a stream that breaks off also had status 200."""
    return requests("200", f"0+{good + broken}x800", route="/chat/stream") | {
        f"agent_stream_errors_total{{{OF}}}": f"0+{broken}x800"
    }


def slow(metric: str, labels: str, limit: str, fast: int, every: int) -> Series:
    """Return durations: of `every` per minute, `fast` are within the limit."""
    return {
        f'{metric}_bucket{{{OF}{labels}, le="{limit}"}}': f"0+{fast}x800",
        f"{metric}_count{{{OF}{labels}}}": f"0+{every}x800",
    }


def turns(outcome: str, good: int, bad: int) -> Series:
    series = f'agent_model_requests_total{{{OF}, model="m"'
    return {f'{series}, outcome="ok"}}': f"0+{good}x800", f'{series}, outcome="{outcome}"}}': f"0+{bad}x800"}


def queue(depth: str, running: int, due: str | None = None, pod: str = "a") -> Series:
    of = f'{OF}, pod="{pod}"'
    return {
        f"agent_task_queue_depth{{{of}}}": depth,
        f"agent_tasks_due{{{of}}}": depth if due is None else due,
        f'agent_tasks{{{of}, state="running"}}': f"{running}x800",
    }


# The metrics of workers: without those that the API publishes about the queue and the budget.
WORKER = 'namespace="team-a", service="support-worker"'
BESIDE = {
    f"{each}{{{WORKER}}}": "0x800"
    for each in ("agent_task_queue_depth", "agent_tasks_due", "agent_budget_used_ratio", "agent_stream_errors_total")
}


def stops(whether: str) -> Series:
    """Return whether the budget stops the agent."""
    return {f"agent_budget_stops{{{OF}}}": whether}


def used(share: str) -> Series:
    """Return the used share of the budget."""
    return {f"agent_budget_used_ratio{{{OF}}}": share}


def key(values: str, pod: str = "a") -> Series:
    """Return whether a pod reports that its key is refused."""
    return {f'agent_model_credentials_refused{{{OF}, pod="{pod}"}}': values}


def dependency(values: str, pod: str = "a") -> Series:
    """Return whether Redis does what a pod requests."""
    return {f'agent_dependency_up{{{OF}, pod="{pod}", component="redis"}}': values}


def tool_server(values: str, pod: str = "a", of: str = OF) -> Series:
    """Return whether a pod is connected to a server of tools."""
    return {f'agent_tool_server_up{{{of}, pod="{pod}", server="berths"}}': values}


def tool_calls(*, of: str = OF, server: str = "berths", **outcomes: float) -> Series:
    """Return calls by outcome, by rates per minute."""
    return {
        f'agent_tool_calls_total{{{of}, server="{server}", tool="book", outcome="{outcome}"}}': f"0+{rate}x800"
        for outcome, rate in outcomes.items()
    }


def approvals(waiting: str, approved: str = "0x800", pod: str = "a") -> Series:
    """Return the turns that wait, as a pod publishes them for the whole agent, and the calls approved at it."""
    return {
        f'agent_approvals_waiting{{{OF}, pod="{pod}"}}': waiting,
        f'agent_approvals_total{{{OF}, pod="{pod}", decision="approved"}}': approved,
        f'agent_approvals_total{{{OF}, pod="{pod}", decision="expired"}}': "0+1x800",
    }


AGENT_IMAGE = "portside.dev/agent-service:0.2.0"
WAITS = "1x2 stale _x2 1x2 stale _x2 "


def container(reason: str, values: str, image: str = AGENT_IMAGE, label: str = "image", name: str = "agent") -> Series:
    """Return what kube-state-metrics reports of a container."""
    labels = f'namespace="team-a", pod="support-1", container="{name}"'
    return {
        f'kube_pod_container_status_waiting_reason{{{labels}, reason="{reason}"}}': values,
        f'kube_pod_container_info{{{labels}, {label}="{image}"}}': "1x800",
    }


def operator(metric: str, labels: str, values: str) -> Series:
    return {f'{metric}{{namespace="o", service="op", {labels}}}': values}


def condition(name: str, values: str, agent: str = "support", pod: str = "a") -> Series:
    labels = f'pod="{pod}", agent_namespace="team-a", agent="{agent}", condition="{name}"'
    return operator("agent_operator_agent_condition", labels, values)


def takes_requests(pods: str) -> Series:
    """Return how many pods of an agent are ready, as the operator publishes it."""
    return operator("agent_operator_agent_ready_pods", 'pod="a", agent_namespace="team-a", agent="support"', pods)


def scraped(values: str, of: str = OF, pod: str = "support-1") -> Series:
    """Return the series that every scraped pod has."""
    return {f'agent_build_info{{{of}, pod="{pod}"}}': values}


def watches(restarts: str, number: int = 1, silent: str = "0x800") -> Series:
    of = 'pod="a", kind="Service"'
    return (
        operator("agent_operator_watch_restarts_total", of, restarts)
        | operator("agent_operator_watches", of, f"{number}x800")
        | operator("agent_operator_watch_silent_seconds", of, silent)
    )


ANSWERS = ("agent_http_request_duration_seconds", ', method="POST", route="/chat"', "30.0")
FIRST = ("agent_stream_first_token_seconds", "", "5.0")
PROBES = requests("503", "0+100x800", method="GET", route="/health/ready")


def burns(objective: str, *tiers: str) -> set[str]:
    return {f"Agent{objective}BudgetBurns{tier}" for tier in tiers}


# The series besides those of the operators, the minute of the evaluation, and the alerts that fire then.
CASES: dict[str, tuple[Series, int, set[str]]] = {
    "all is well": (chats(100, 0) | streams(50, 0) | turns("rate_limited", 100, 0) | BESIDE, 400, set()),
    "one answer in 500 fails": (chats(499, 1), 400, set()),
    "one answer in 50 fails": (chats(49, 1), 400, burns("Error", "Steadily")),
    "one answer in 10 fails": (chats(90, 10), 400, burns("Error", "Slow", "Steadily")),
    "every other answer fails": (chats(50, 50), 400, burns("Error", "Fast", "Slow", "Steadily")),
    "every other stream breaks off": (streams(50, 50), 400, burns("Error", "Fast", "Slow", "Steadily")),
    "one failure among six requests": (
        requests("200", "0+0.1x800") | requests("503", "0x380 1x400"),
        382,
        set(),
    ),
    "one failure each hour, as half of what is asked": (
        requests("200", "0+0.02x800") | requests("503", "0+0.02x800"),
        400,
        set(),
    ),
    "failures are thinned by polls and pages": (
        chats(50, 50)
        | requests("200", "0+1000x800", method="GET", route="/tasks/{task_id}")
        | requests("200", "0+1000x800", method="GET", route="/"),
        400,
        burns("Error", "Fast", "Slow", "Steadily"),
    ),
    "failures are diluted by invalid requests of callers": (
        chats(50, 50) | requests("404", "0+1000x800", route="unmatched"),
        400,
        burns("Error", "Fast", "Slow", "Steadily"),
    ),
    "load is shed unread": (
        chats(50, 0) | requests("503", "0+50x800", route="unmatched"),
        400,
        burns("Error", "Fast", "Slow", "Steadily"),
    ),
    "failures of an hour end": (
        requests("200", "0+50x800") | requests("503", "0+50x60 3000x700"),
        100,
        burns("Error", "Steadily"),
    ),
    "failures of an hour ended long ago": (
        requests("200", "0+5000x800") | requests("503", "0+50x60 3000x700"),
        500,
        set(),
    ),
    "pods restart, and count from 0": (
        requests("200", "0+100x100 0+100x100 0+100x100 0+100x100") | requests("503", "0+1x100 0+1x100 0+1x100 0+1x100"),
        390,
        set(),
    ),
    "failures begin in pods that had none": (
        requests("200", "0+50x800") | requests("503", "_x300 50+50x500"),
        400,
        burns("Error", "Fast", "Slow", "Steadily"),
    ),
    "one agent fails, and another is asked a lot": (
        chats(50, 50) | chats(10_000, 0, 'namespace="team-b", service="support"'),
        400,
        burns("Error", "Fast", "Slow", "Steadily"),
    ),
    "probes of a draining pod are no errors": (chats(100, 0) | PROBES, 400, set()),
    "one answer in 50 is slow": (slow(*ANSWERS, 98, 100), 400, set()),
    "one answer in ten is slow": (slow(*ANSWERS, 90, 100), 400, burns("Latency", "Steadily")),
    "four answers in ten are slow": (slow(*ANSWERS, 60, 100), 400, burns("Latency", "Slow", "Steadily")),
    "nearly all answers are slow": (slow(*ANSWERS, 10, 100), 400, burns("Latency", "Fast", "Slow", "Steadily")),
    "one stream in 50 begins late": (slow(*FIRST, 98, 100), 400, set()),
    "one stream in ten begins late": (slow(*FIRST, 90, 100), 400, burns("FirstToken", "Steadily")),
    "four streams in ten begin late": (slow(*FIRST, 60, 100), 400, burns("FirstToken", "Slow", "Steadily")),
    "nearly all streams begin late": (slow(*FIRST, 10, 100), 400, burns("FirstToken", "Fast", "Slow", "Steadily")),
    "one turn in ten is throttled": (turns("rate_limited", 90, 10), 30, {"AgentModelThrottled"}),
    "one turn in ten finds the model overloaded": (turns("overloaded", 90, 10), 30, {"AgentModelThrottled"}),
    "one turn in a hundred is throttled": (turns("rate_limited", 99, 1), 30, set()),
    "turns are throttled for a moment": (turns("rate_limited", 50, 50), 5, set()),
    "most of the budget is used": (used("0.9x800"), 30, {"AgentBudgetNearlyUsedUp"}),
    "all of the budget is used, and the agent goes on": (
        used("1.1x800") | stops("0x800"),
        30,
        {"AgentBudgetUsedUp"},
    ),
    "all of the budget is used, and the agent is stopped": (
        used("1x800") | stops("1x800"),
        30,
        {"AgentBudgetUsedUp", "AgentStoppedByBudget"},
    ),
    "a client has its limit": (requests("200", "0+10x800") | requests("429", "0+10x800"), 400, set()),
    "half of the budget is used": (used("0.5x800"), 30, set()),
    "a day's budget is used up and the next day comes": (
        used("1.1x5 0x800") | stops("1x5 0x800"),
        30,
        set(),
    ),
    "the key is refused, and no request comes": (key("1x800") | key("0x800", "b"), 30, {"AgentCredentialsRefused"}),
    "no pod can use Redis": (dependency("0x800") | dependency("0x800", "b"), 30, {"AgentDependencyDown"}),
    "one pod of two cannot use Redis": (dependency("0x800") | dependency("1x800", "b"), 30, set()),
    "Redis was away for a moment": (dependency("1x10 0x4 1x800"), 30, set()),
    "the key was refused, and is right again": (key("1x20 0x800"), 30, set()),
    "the key of a pod is refused, and its successor has a new one": (
        key("1x20 stale") | key("_x20 0x800", "b"),
        30,
        set(),
    ),
    "tasks could be done and none runs": (queue("3x800", 0) | BESIDE, 30, {"AgentQueueStuck"}),
    "a pod lost Redis, and reports no task": (
        queue("3x800", 0) | queue("0x800", 0, pod="b"),
        30,
        {"AgentQueueStuck"},
    ),
    "tasks wait for a model that turns them away": (queue("3x800", 0, due="0x800"), 30, set()),
    "tasks wait and some run": (queue("3x800", 2), 30, set()),
    "tasks were stuck, and are done now": (queue("3x30 0x800", 0), 45, set()),
    "no task waits": (queue("0x800", 0), 30, set()),
    "no pod can use a tool server": (
        tool_server("0x800") | tool_server("0x800", "b"),
        30,
        {"AgentToolServerDown"},
    ),
    "one pod of two cannot use a tool server": (tool_server("0x800") | tool_server("1x800", "b"), 30, set()),
    "workers cannot use a tool server": (
        tool_server("1x800") | tool_server("0x800", of=WORKER),
        30,
        {"AgentToolServerDown"},
    ),
    "a tool server restarts": (tool_server("1x10 0x3 1x800"), 30, set()),
    "a tool server was down, and its entry is removed": (tool_server("0x3 stale"), 30, set()),
    "most calls of a tool server time out": (tool_calls(ok=2, timed_out=3), 30, {"AgentToolCallsFail"}),
    "a tool reports an error for most calls": (tool_calls(ok=1, error=9), 30, {"AgentToolCallsFail"}),
    "one call in three fails": (tool_calls(ok=2, error=1), 30, set()),
    "the only two calls fail": (tool_calls(ok=0, error=0.13), 30, set()),
    "calls without an approval do not run": (tool_calls(ok=1, not_approved=50, cancelled=50), 30, set()),
    "the model calls tools that do not exist": (tool_calls(server="unknown", unknown_tool=50), 30, set()),
    "failures of one tool server are hidden in the calls of another": (
        tool_calls(error=5) | tool_calls(server="tides", ok=1000),
        30,
        {"AgentToolCallsFail"},
    ),
    "calls that are denied do not hide failures": (
        tool_calls(ok=1, failed=4, not_approved=100),
        30,
        {"AgentToolCallsFail"},
    ),
    "turns wait for an approval, and no call is decided": (
        approvals("0x5 2x800") | approvals("0x5 2x800", pod="b") | {f"agent_approvals_waiting{{{WORKER}}}": "0x800"},
        30,
        {"AgentApprovalsWait"},
    ),
    "turns wait, and at another pod calls are decided": (
        approvals("2x800") | approvals("2x800", "0+1x800", pod="b"),
        30,
        set(),
    ),
    "calls were decided, and no more are": (approvals("2x800", "0+1x10 11x800"), 40, {"AgentApprovalsWait"}),
    "a turn waited for a while": (approvals("0x5 1x10 0x800"), 30, set()),
    "ever more tasks wait": (queue("200+5x800", 8) | BESIDE, 90, {"AgentQueueGrows"}),
    "ever fewer tasks wait": (queue("5000-5x800", 8), 90, set()),
    "an agent crashes again and again": (container("CrashLoopBackOff", WAITS * 8), 30, {"AgentCrashLoops"}),
    "an agent of which only the spec has the image's name crashes": (
        container("CrashLoopBackOff", WAITS * 8, label="image_spec"),
        30,
        {"AgentCrashLoops"},
    ),
    "an operator crashes again and again": (
        container("CrashLoopBackOff", WAITS * 8, "registry.example/portside/agent-operator@sha256:0", name="operator"),
        30,
        {"AgentCrashLoops"},
    ),
    "the agent of another product crashes": (
        container("CrashLoopBackOff", WAITS * 8, "gcr.io/datadoghq/agent:7"),
        30,
        set(),
    ),
    "an agent crashed, and runs": (container("CrashLoopBackOff", "1x20 stale"), 30, set()),
    "a pod is being made": (container("ContainerCreating", "1x800"), 30, set()),
    "an agent is degraded": (condition("Degraded", "1x800"), 30, {"AgentDegraded"}),
    "an agent is not ready": (condition("Ready", "0x800"), 30, {"AgentNotReady"}),
    "an agent is not ready, another is": (
        condition("Ready", "0x800") | condition("Ready", "1x800", "other"),
        30,
        {"AgentNotReady"},
    ),
    "agents are rolled out one after the other": (
        condition("Ready", "0x10 1x800")
        | condition("Ready", "1x9 0x10 1x800", "b")
        | condition("Ready", "1x18 0x15 1x800", "c"),
        30,
        set(),
    ),
    "an agent that was not ready is deleted": (condition("Ready", "0x20 stale"), 30, set()),
    "an agent was not ready, and is": (condition("Ready", "0x20 1x800"), 30, set()),
    "another operator takes over reporting a bad agent": (
        condition("Degraded", "1x20 stale") | condition("Degraded", "_x5 1x800", pod="b"),
        30,
        {"AgentDegraded"},
    ),
    "an agent does not scale": (condition("ScalingActive", "0x800"), 30, {"AgentNotScaling"}),
    "an agent takes requests, and is not scraped any more": (
        takes_requests("2x800") | scraped("1x30 stale"),
        50,
        {"AgentNotScraped"},
    ),
    "an agent is not scraped any more, its workers and its namesake are": (
        takes_requests("2x800")
        | scraped("1x30 stale")
        | scraped("1x800", WORKER)
        | scraped("1x800", 'namespace="team-b", service="support"'),
        50,
        {"AgentNotScraped"},
    ),
    "an agent is not scraped for a moment": (takes_requests("2x800") | scraped("1x30 stale _x12 1x800"), 48, set()),
    "one of an agent's pods is scraped": (
        takes_requests("2x800") | scraped("1x30 stale") | scraped("1x800", pod="support-2"),
        50,
        set(),
    ),
    "an agent was never scraped": (takes_requests("2x800"), 50, set()),
    "an agent is scaled to nothing": (takes_requests("2x30 0x800") | scraped("1x30 stale"), 50, set()),
    "an agent is deleted": (takes_requests("2x30 stale") | scraped("1x30 stale"), 50, set()),
    "agents are ready": (
        condition("Ready", "1x800") | condition("Degraded", "0x800") | condition("ScalingActive", "1x800"),
        30,
        set(),
    ),
    "reconciles of agents fail": (
        operator("agent_operator_reconciles_total", 'result="error"', "0+1x800"),
        40,
        {"AgentOperatorReconcileFails"},
    ),
    "reconciles of agents succeed": (
        operator("agent_operator_reconciles_total", 'result="success"', "0+100x800"),
        40,
        set(),
    ),
    "watches are cut each minute": (watches("0+1x800"), 60, {"AgentOperatorWatchesCut"}),
    "watches restart every five minutes": (watches("0+0.2x800"), 60, set()),
    "watches of five namespaces restart every five minutes": (watches("0+1x800", 5), 60, set()),
    "watches of forty namespaces are renewed as they should be": (watches("0+8.57x800", 40), 60, set()),
    "of five namespaces the watch of one is cut each minute": (
        watches("0+1.8x800", 5),
        60,
        {"AgentOperatorWatchesCut"},
    ),
    "a watch is silent until it is renewed": (watches("0x800", silent="0+60x4 0+60x4 0+60x4 0+60x4"), 18, set()),
    "a watch stalls until the operator restarts, repeatedly": (
        watches("0x800", silent="0+60x7 0+60x7 0+60x7 0+60x7"),
        30,
        {"AgentOperatorWatchStalled"},
    ),
}
BRIEF = "0x1 stale _x4 "
# The same for the operators themselves.
OF_OPERATORS: dict[str, tuple[Series, int, set[str]]] = {
    "no operator is there": ({}, 30, {"AgentOperatorDown"}),
    "the operator of another release is there": (
        {'agent_operator_is_leader{namespace="o2", service="op", pod="a"}': "1x800"},
        30,
        {"AgentOperatorDown"},
    ),
    "the operator crashes again and again": (
        {'agent_operator_is_leader{namespace="o", service="op", pod="a"}': BRIEF * 8},
        40,
        {"AgentOperatorDown"},
    ),
    "no operator leads": (WAITING, 30, {"AgentOperatorNoLeader"}),
    "an operator leads for a moment now and then": (
        WAITING
        | {'agent_operator_is_leader{namespace="o", service="op", pod="a"}': "0x4 1 0x4 1 0x4 1 0x4 1 0x4 1 0x4 1"},
        29,
        {"AgentOperatorNoLeader"},
    ),
    "two operators lead": (
        LEADER | {'agent_operator_is_leader{namespace="o", service="op", pod="c"}': "1x800"},
        30,
        {"AgentOperatorSeveralLeaders"},
    ),
    "the leader is read twice": (
        LEADER | {'agent_operator_is_leader{namespace="o", service="op", pod="a", job="twice"}': "1x800"},
        30,
        set(),
    ),
    "one operator takes over from the other": (
        {
            'agent_operator_is_leader{namespace="o", service="op", pod="a"}': "1x20 0x800",
            'agent_operator_is_leader{namespace="o", service="op", pod="b"}': "0x21 1x800",
        },
        22,
        set(),
    ),
    "the only operator is replaced": (
        {
            'agent_operator_is_leader{namespace="o", service="op", pod="a"}': "1x20 stale",
            'agent_operator_is_leader{namespace="o", service="op", pod="b"}': "_x22 1x800",
        },
        24,
        set(),
    ),
}
ALL = {name: (OPERATORS | series, at, fires) for name, (series, at, fires) in CASES.items()} | OF_OPERATORS


@pytest.fixture(scope="session")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the rules of the release `op` in namespace `o`."""
    text = ALERTS.read_text()
    for word, stands_for in RELEASE.items():
        text = text.replace(word, stands_for)
    file = tmp_path_factory.mktemp("rules") / "alerts.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize(("series", "minute", "firing"), ALL.values(), ids=ALL.keys())
def test_the_alerts_that_fire(rules: Path, tmp_path: Path, series: Series, minute: int, firing: set[str]) -> None:
    expected = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(firing)]
    _expect(
        rules,
        tmp_path,
        series,
        {
            "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
            "eval_time": f"{minute}m",
            "exp_samples": expected,
        },
    )


# For two similar series, the labels of the only alert that fires.
NAMED: dict[str, tuple[str, Series, str]] = {
    "agents of one name in two namespaces": (
        "AgentErrorBudgetBurnsFast",
        chats(50, 50) | chats(50, 0, 'namespace="team-b", service="support"'),
        'namespace="team-a", service="support"',
    ),
    "an agent and its workers": (
        "AgentCredentialsRefused",
        key("1x800") | {f"agent_model_credentials_refused{{{WORKER}}}": "0x800"},
        'namespace="team-a", service="support"',
    ),
    "an agent, its pods, and its workers": (
        "AgentQueueStuck",
        queue("3x800", 0) | queue("3x800", 0, pod="b") | BESIDE,
        'namespace="team-a", service="support"',
    ),
    "two tool servers, an agent and its workers": (
        "AgentToolServerDown",
        tool_server("0x800")
        | tool_server("1x800", of=WORKER)
        | {f'agent_tool_server_up{{{OF}, pod="a", server="tides"}}': "1x800"},
        f'{OF}, server="berths"',
    ),
    "calls of two tool servers": (
        "AgentToolCallsFail",
        tool_calls(error=5) | tool_calls(server="tides", ok=5),
        f'{OF}, server="berths"',
    ),
    "an agent and its pods": (
        "AgentApprovalsWait",
        approvals("1x800") | approvals("1x800", pod="b"),
        OF,
    ),
    "agents that two operators report": (
        "AgentNotReady",
        condition("Ready", "0x800") | condition("Ready", "0x800", pod="b") | condition("Ready", "1x800", "other"),
        'namespace="o", service="op", agent_namespace="team-a", agent="support"',
    ),
    "agents that two operators report, and one that is scraped": (
        "AgentNotScraped",
        takes_requests("2x800")
        | operator("agent_operator_agent_ready_pods", 'pod="b", agent_namespace="team-a", agent="support"', "2x800")
        | operator("agent_operator_agent_ready_pods", 'pod="a", agent_namespace="team-a", agent="other"', "2x800")
        | scraped("1x30 stale")
        | scraped("1x800", 'namespace="team-a", service="other"'),
        'namespace="o", service="op", agent_namespace="team-a", agent="support"',
    ),
    "a release whose operators are gone": (
        "AgentOperatorDown",
        dict.fromkeys(OPERATORS, "_x800"),
        'namespace="o", service="op"',
    ),
    "operators of one release": (
        "AgentOperatorWatchStalled",
        operator("agent_operator_watch_silent_seconds", 'pod="a", kind="Service"', "400x800")
        | operator("agent_operator_watch_silent_seconds", 'pod="b", kind="Service"', "200x800"),
        'namespace="o", service="op", pod="a", kind="Service"',
    ),
}


@pytest.mark.parametrize(("alert", "series", "labels"), NAMED.values(), ids=NAMED.keys())
def test_an_alert_has_the_labels_of_its_subject(
    rules: Path, tmp_path: Path, alert: str, series: Series, labels: str
) -> None:
    _expect(
        rules,
        tmp_path,
        OPERATORS | series,
        {
            "expr": f'group without (alertstate, severity) (ALERTS{{alertname="{alert}", alertstate="firing"}})',
            "eval_time": "400m",
            "exp_samples": [{"labels": f'{{alertname="{alert}", {labels}}}', "value": 1}],
        },
    )


def test_events_at_every_full_five_minutes_are_in_the_three_day_window(rules: Path, tmp_path: Path) -> None:
    """An event there, between two scrapes, is in no record that starts or ends there."""
    jobs = [10 * ((second + 300) // 600) for second in range(0, 12 * 3600, SPARSE)]
    failures = requests("500", " ".join(map(str, jobs)))
    all_of_them = "portside:http_errors:increase3d > bool 0.5 * 10 * 6 * 12"
    look = {"expr": all_of_them, "eval_time": "12h", "exp_samples": [{"labels": f"{{{OF}}}", "value": 1}]}
    _expect(rules, tmp_path, failures, look, interval=f"{SPARSE}s")


@pytest.mark.parametrize("file", [ALERTS, PLAIN], ids=["chart", "plain"])
def test_promtool_accepts_the_rules_unchanged(file: Path) -> None:
    code, output = promtool("check", "rules", "--lint=all", "--lint-fatal", str(file))
    assert code == 0, output


def test_every_alert_is_tested_both_ways() -> None:
    alerts = {rule["alert"] for rule in RULES if "alert" in rule}
    assert alerts == {name for _, _, firing in ALL.values() for name in firing}
    assert any(not firing for _, _, firing in ALL.values())


@pytest.mark.parametrize("rule", [rule for rule in RULES if "alert" in rule], ids=lambda rule: rule["alert"])
def test_an_alert_describes_the_problem_and_has_a_runbook(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert {"summary", "description", "runbook_url"} == set(rule["annotations"])
    headings = [heading.lower() for heading in re.findall(r"^## (\w+)$", RUNBOOKS, re.MULTILINE)]
    assert rule["annotations"]["runbook_url"] == f"RUNBOOKS#{rule['alert'].lower()}"
    assert rule["alert"].lower() in headings


def test_the_alert_and_the_operator_warn_of_a_budget_at_the_same_share() -> None:
    [rule] = [each for each in RULES if each.get("alert") == "AgentBudgetNearlyUsedUp"]
    assert f">= {NEARLY / 100})" in rule["expr"]


def test_log_messages_in_runbooks_exist_in_the_code() -> None:
    words = re.findall(r"grep '([^']+)'", RUNBOOKS)
    code = [each for part in ("service", "operator") for each in (paths.REPOSITORY / part).rglob("*.py")]
    sources = "".join(each.read_text() for each in code)
    assert words
    assert [each for each in words if each not in sources] == []


def _expect(rules: Path, folder: Path, series: Series, look: dict[str, Any], interval: str = "1m") -> None:
    given = [{"series": name, "values": values} for name, values in series.items()]
    test = {"interval": interval, "input_series": given, "promql_expr_test": [look]}
    file = folder / "test.yaml"
    file.write_text(json.dumps({"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": [test]}))
    code, output = promtool("test", "rules", str(file))
    assert code == 0, output
