"""The condition that the operator derives from what pods report of the servers of tools."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent_operator.api.validation import parse
from agent_operator.controller.metrics import Metrics
from agent_operator.controller.reconcile.publish import news
from agent_operator.controller.status.dependencies import DEGRADED_AFTER, Report
from agent_operator.controller.status.settling import SILENT, UP, Reading, Settling
from agent_operator.controller.status.status import Observation, seconds_until_degraded, status_of, status_of_invalid
from agent_operator.controller.status.tool_servers import KINDS, lists_in, servers_in
from agent_operator.kube.cache import AgentState
from agent_operator.kube.resources import Key
from agent_service.tooling import kinds

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
        (up("search", "0.0") + failing("search", "no_health_path"), {"search": "other"}),
        (up("Not A Name", "0.0"), {}),
        (up("s" * 33, "0.0"), {}),
    ],
)
def test_pods_report_their_servers(metrics: str, reading: Reading) -> None:
    assert servers_in(metrics) == reading


def test_the_operator_has_a_sentence_for_each_kind_that_the_service_publishes() -> None:
    assert KINDS.keys() - {"other"} == kinds.KINDS


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("1.9548925493264e+14", {"search": f"{195489254932640:012x}"}),
        ("7.0", {"search": "000000000007"}),
        ("281474976710656.0", {}),
        ("-1.0", {}),
        ("0.5", {}),
        ("1e400", {}),
        ("NaN", {}),
    ],
)
def test_pods_report_the_hash_of_each_list(value: str, found: Reading) -> None:
    assert lists_in(f'agent_tool_list_hash{{server="search"}} {value}\n') == found


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
    lists: Reading | None = None,
    generation: int = 1,
) -> dict[str, Any]:
    agent = {
        "apiVersion": "portside.dev/v1alpha1",
        "kind": "AgentDeployment",
        "metadata": {"name": "support", "namespace": "team", "uid": "u", "generation": generation},
        "spec": {"agent": {"provider": "echo"}, "tools": list(tools)},
    }
    reported = Report(dependencies=dependencies, tool_servers=servers, tool_lists=lists or {})
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


FIRST: Reading = {"search": "00000000000a", "orders": "00000000000b"}
OTHER: Reading = {**FIRST, "search": "00000000000c"}


def test_a_changed_list_of_tools_is_reported_once_by_an_event_that_names_the_server() -> None:
    first = status(BOTH_UP, {}, lists=FIRST)
    unknown = status(BOTH_UP, first, lists={})
    changed = status(BOTH_UP, unknown, lists=OTHER)
    again = status(BOTH_UP, changed, lists=OTHER)

    assert first["toolServers"] == [{"name": name, "hash": value} for name, value in FIRST.items()]
    assert unknown["toolServers"] == first["toolServers"]
    ((kind, reason, text),) = news(first, changed)
    assert (kind, reason) == ("Warning", "ToolDescriptionsChanged")
    assert "search" in text
    assert "orders" not in text
    assert list(news(changed, again)) == []


def test_another_generation_may_have_other_lists() -> None:
    first = status(BOTH_UP, {}, lists=FIRST)
    edited = status(BOTH_UP, first, lists={}, generation=2)
    seen = status(BOTH_UP, edited, lists=OTHER, generation=2)

    assert "toolServers" not in edited
    assert list(news(first, edited)) == list(news(edited, seen)) == []
    assert {each["name"]: each["hash"] for each in seen["toolServers"]} == OTHER


def test_hashes_do_not_outlive_a_generation_that_was_never_applied() -> None:
    first = status(BOTH_UP, {}, lists=FIRST)
    invalid = status_of_invalid(2, ["spec: wrong"], first, NOW)

    assert "toolServers" not in invalid
    assert status_of_invalid(1, ["spec: wrong"], first, NOW)["toolServers"] == first["toolServers"]
