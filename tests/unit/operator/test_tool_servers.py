"""The condition that the operator derives from what pods report of the servers of tools."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent_operator.api.validation import parse
from agent_operator.controller.metrics import Metrics
from agent_operator.controller.reconcile.publish import news
from agent_operator.controller.status.dependencies import DEGRADED_AFTER, Report
from agent_operator.controller.status.settling import SILENT, UP, Reading, Settling
from agent_operator.controller.status.status import Observation, seconds_until_degraded, status_of
from agent_operator.controller.status.tool_servers import servers_in
from agent_operator.kube.cache import AgentState
from agent_operator.kube.resources import Key

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
SEARCH = {"name": "search", "mcp": {"url": "https://search.example.com/mcp"}}
ORDERS = {"name": "orders", "mcp": {"url": "http://orders.shop:8000/mcp"}, "onUnavailable": "fail"}
WEB = {"name": "web", "builtin": "web_search"}
BOTH_UP: Reading = {"search": UP, "orders": UP}
REACHABLE: Reading = {"model_api": UP, "redis": UP}


def up(server: str, value: str) -> str:
    return f'agent_tool_server_up{{server="{server}"}} {value}\n'


def failing(server: str, kind: str, value: str = "1.0") -> str:
    return f'agent_tool_server_failing{{kind="{kind}",server="{server}"}} {value}\n'


@pytest.mark.parametrize(
    ("metrics", "reading"),
    [
        ("", {}),
        (up("search", "1.0") + up("orders", "1"), BOTH_UP),
        (up("search", "0.0"), {"search": "other"}),
        (up("search", "0.0") + failing("search", "dns"), {"search": "dns"}),
        (up("search", "0.0") + failing("search", "no_secret"), {"search": "no_secret"}),
        (up("search", "0.0") + failing("search", "dns", "0.0"), {"search": "other"}),
        (up("search", "0.0") + failing("search", "text_of_the_server"), {"search": "other"}),
        (up("Not A Name", "0.0"), {}),
        (up("s" * 33, "0.0"), {}),
    ],
)
def test_pods_report_their_servers(metrics: str, reading: Reading) -> None:
    assert servers_in(metrics) == reading


def test_the_names_that_a_pod_can_report_are_bounded() -> None:
    settling = Settling()
    for number in range(200):
        settling.take({f"server-{number}-{each}": UP for each in range(10)})

    assert len(settling.settled or {}) <= 64


def status(
    servers: Reading | None,
    old: dict[str, Any],
    now: datetime = NOW,
    *,
    tools: tuple[dict[str, Any], ...] = (SEARCH, ORDERS, WEB),
    dependencies: Reading | None = REACHABLE,
) -> dict[str, Any]:
    agent = {
        "apiVersion": "portside.dev/v1alpha1",
        "kind": "AgentDeployment",
        "metadata": {"name": "support", "namespace": "team", "uid": "u", "generation": 1},
        "spec": {"agent": {"provider": "echo"}, "tools": list(tools)},
    }
    reported = Report(dependencies=dependencies, tool_servers=servers)
    return status_of(parse(agent), Observation(reported=reported), old, now)


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}


def message(status: dict[str, Any], name: str) -> str:
    found: str = next(each["message"] for each in status["conditions"] if each["type"] == name)
    return found


def test_an_agent_without_servers_has_no_such_condition() -> None:
    assert "ToolsReady" not in conditions(status(None, {}, tools=()))
    assert "ToolsReady" not in conditions(status(None, {}, tools=(WEB,)))


@pytest.mark.parametrize(
    ("servers", "dependencies", "condition"),
    [
        (BOTH_UP, REACHABLE, ("True", "ToolsListed")),
        ({**BOTH_UP, "removed": "dns"}, REACHABLE, ("True", "ToolsListed")),
        ({**BOTH_UP, "search": "dns"}, REACHABLE, ("False", "ToolServersUnavailable")),
        ({**BOTH_UP, "orders": "dns"}, REACHABLE, ("False", "RequiredToolServersUnavailable")),
        ({"search": UP}, REACHABLE, ("Unknown", "NotReported")),
        ({}, REACHABLE, ("Unknown", "NotReported")),
        (None, None, ("Unknown", "NotReported")),
        (BOTH_UP, {"model_api": SILENT, "redis": SILENT}, ("Unknown", "NotReported")),
    ],
)
def test_the_condition_follows_the_reports(
    servers: Reading | None, dependencies: Reading | None, condition: tuple[str, str]
) -> None:
    assert conditions(status(servers, {}, dependencies=dependencies))["ToolsReady"] == condition


def test_the_message_names_each_server_and_the_effect() -> None:
    found = message(status({"search": "credentials_refused", "orders": "dns"}, {}), "ToolsReady")

    assert "search cannot be used: it does not accept the credentials" in found
    assert "orders cannot be used: its name cannot be resolved" in found
    assert "503 (onUnavailable: fail of orders)" in found


def test_a_restarted_operator_keeps_what_was_known() -> None:
    before = status({**BOTH_UP, "search": "dns"}, {})

    assert conditions(status(None, before))["ToolsReady"] == ("False", "ToolServersUnavailable")


def test_only_a_required_server_degrades_the_agent() -> None:
    optional = status({**BOTH_UP, "search": "dns"}, {})
    assert seconds_until_degraded(optional, NOW) is None
    assert (
        conditions(status({**BOTH_UP, "search": "dns"}, optional, NOW + 2 * DEGRADED_AFTER))["Degraded"][0] == "False"
    )
    assert "search cannot be used" in message(optional, "Degraded")

    required = status({**BOTH_UP, "orders": "dns"}, {})
    left = seconds_until_degraded(required, NOW)
    assert left is not None
    later = NOW + timedelta(seconds=left)
    lasted = status({**BOTH_UP, "orders": "dns"}, required, later)
    assert conditions(lasted)["Degraded"] == ("True", "RequiredToolServersUnavailable")
    assert seconds_until_degraded(lasted, later) is None
    assert conditions(status(BOTH_UP, lasted, later))["Degraded"] == ("False", "AsExpected")


def test_events_report_an_outage_once_and_its_end() -> None:
    well, outage = status(BOTH_UP, {}), status({**BOTH_UP, "search": "dns"}, {})
    required = status({**BOTH_UP, "orders": "dns"}, outage)

    assert [(kind, reason) for kind, reason, _ in news(well, outage)] == [("Warning", "ToolServersUnavailable")]
    assert list(news(outage, outage)) == []
    assert [reason for _, reason, _ in news(outage, required)] == ["RequiredToolServersUnavailable"]
    assert [(kind, reason) for kind, reason, _ in news(required, well)] == [("Normal", "ToolsReady")]


@pytest.mark.parametrize(("condition", "reported"), [("True", 1.0), ("False", 0.0), ("Unknown", None)])
def test_the_metric_of_a_condition_is_absent_while_it_is_unknown(condition: str, reported: float | None) -> None:
    state = AgentState(frozenset({("ToolsReady", condition)}), 1)
    metrics = Metrics()
    metrics.watch_agents(lambda: [(Key("team", "support"), state)])
    labels = {"agent_namespace": "team", "agent": "support", "condition": "ToolsReady"}

    assert metrics.registry.get_sample_value("agent_operator_agent_condition", labels) == reported
