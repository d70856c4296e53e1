"""The condition that the operator derives from what pods report of the model API and Redis."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent_operator.api.validation import parse
from agent_operator.controller.metrics import Metrics
from agent_operator.controller.reconcile.publish import news
from agent_operator.controller.status.dependencies import (
    DEGRADED_AFTER,
    KINDS,
    Report,
    judge_dependencies,
    reading_in,
)
from agent_operator.controller.status.settling import SILENT, UP, Reading, Settling, agreed
from agent_operator.controller.status.status import Observation, seconds_until_degraded, status_of
from agent_operator.kube.cache import AgentState
from agent_operator.kube.resources import Key
from agent_service.agent.claude import connection
from agent_service.state import redis_errors

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
ALL_UP: Reading = {"model_api": UP, "redis": UP}
DNS: Reading = {"model_api": "dns", "redis": UP}
TIMEOUT: Reading = {"model_api": "timeout", "redis": UP}
NO_ANSWER: Reading = {"model_api": SILENT, "redis": SILENT}
AGENT = {
    "apiVersion": "portside.dev/v1alpha1",
    "kind": "AgentDeployment",
    "metadata": {"name": "support", "namespace": "team", "uid": "u", "generation": 1},
    "spec": {"agent": {"provider": "echo"}},
}


def up(component: str, value: str) -> str:
    return f'agent_dependency_up{{component="{component}"}} {value}\n'


def failing(component: str, kind: str, value: str = "1.0") -> str:
    return f'agent_dependency_failing{{component="{component}",kind="{kind}"}} {value}\n'


def after(*looks: Reading) -> Reading | None:
    """Return the settled state after these readings."""
    dependencies = Settling()
    for look in looks:
        dependencies.take(look)
    return dependencies.settled


@pytest.mark.parametrize(
    ("looks", "settled"),
    [
        ([], None),
        ([ALL_UP], ALL_UP),
        ([{}], None),
        ([{}, {}], {}),
        ([ALL_UP, DNS], ALL_UP),
        ([ALL_UP, DNS, DNS], DNS),
        ([ALL_UP, DNS, TIMEOUT], TIMEOUT),
        ([ALL_UP, DNS, ALL_UP, DNS, ALL_UP, DNS], ALL_UP),
        ([DNS, DNS, ALL_UP, ALL_UP], DNS),
        ([DNS, DNS, ALL_UP, ALL_UP, ALL_UP], ALL_UP),
        ([DNS, DNS, ALL_UP, DNS, ALL_UP, ALL_UP, DNS], DNS),
        ([DNS, DNS, TIMEOUT, DNS, TIMEOUT, DNS], DNS),
        ([DNS, DNS, TIMEOUT, TIMEOUT], TIMEOUT),
        ([ALL_UP, NO_ANSWER], ALL_UP),
        ([ALL_UP, NO_ANSWER, NO_ANSWER], NO_ANSWER),
        ([ALL_UP, NO_ANSWER, NO_ANSWER, ALL_UP], ALL_UP),
        ([ALL_UP, {}, {}], {}),
    ],
)
def test_a_flapping_dependency_changes_nothing(looks: Sequence[Reading], settled: Reading | None) -> None:
    assert after(*looks) == settled


@pytest.mark.parametrize(
    ("metrics", "reading"),
    [
        ("", {}),
        ("<html>", {}),
        (up("model_api", "1.0") + up("redis", "1"), ALL_UP),
        (up("redis", "0.0"), {"redis": "other"}),
        (failing("redis", "full") + failing("redis", "loading", "0.0") + up("redis", "0.0"), {"redis": "full"}),
        (up("model_api", "0.0") + failing("model_api", "rate_limited"), {"model_api": UP}),
        (up("redis", "0.0") + failing("redis", "sk_secret_of_somebody"), {"redis": "other"}),
        (up("your_money", "0.0"), {}),
        (up("redis", "NaN"), {}),
        ("x " + up("redis", "0.0"), {}),
        (up('redis"', "0.0"), {}),
    ],
)
def test_only_known_words_are_read_from_the_metrics(metrics: str, reading: Reading) -> None:
    assert reading_in(metrics) == reading


def test_a_dependency_that_one_of_two_pods_can_use_is_not_down() -> None:
    assert agreed(DNS, {"model_api": UP, "redis": "full"}) == ALL_UP
    assert agreed(DNS, TIMEOUT) == DNS
    assert agreed(DNS, {}) == DNS


@pytest.mark.parametrize(
    ("settled", "judged"),
    [
        (ALL_UP, ("True", "Reachable")),
        (DNS, ("False", "ModelAPIUnavailable")),
        ({"model_api": UP, "redis": "full"}, ("False", "RedisUnavailable")),
        ({"model_api": "dns", "redis": "full"}, ("False", "DependenciesUnavailable")),
        (NO_ANSWER, ("Unknown", "NotReported")),
        ({}, None),
        (None, None),
    ],
)
def test_the_condition_follows_the_reports(settled: Reading | None, judged: tuple[str, str] | None) -> None:
    found = judge_dependencies(settled, {})
    assert (None if found is None else (found.status, found.reason)) == judged


def status(settled: Reading | None, old: dict[str, Any], now: datetime) -> dict[str, Any]:
    return status_of(parse(AGENT), Observation(reported=Report(dependencies=settled)), old, now)


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}


def test_a_lasting_outage_degrades_the_agent_until_it_ends() -> None:
    began = status(DNS, {}, NOW)
    assert conditions(began)["DependenciesReachable"] == ("False", "ModelAPIUnavailable")
    assert conditions(began)["Degraded"] == ("False", "AsExpected")
    assert "its name cannot be resolved" in str(began["conditions"])
    assert "No problem is known'" not in str(began["conditions"])

    soon = NOW + DEGRADED_AFTER / 2
    left = seconds_until_degraded(began, soon)
    assert left is not None
    # The operator may have been restarted in the meantime, and not know yet.
    later = soon + timedelta(seconds=left)
    lasted = status(None, began, later)
    assert conditions(lasted)["Degraded"] == ("True", "ModelAPIUnavailable")
    assert seconds_until_degraded(lasted, later) is None

    ended = status(ALL_UP, lasted, later)
    assert conditions(ended)["Degraded"] == ("False", "AsExpected")
    assert conditions(ended)["DependenciesReachable"] == ("True", "Reachable")
    assert seconds_until_degraded(ended, later) is None


def test_events_report_an_outage_once_and_its_end() -> None:
    up, outage = status(ALL_UP, {}, NOW), status(DNS, {}, NOW)
    assert list(news(up, up)) == []
    assert [(kind, reason) for kind, reason, _ in news(up, outage)] == [("Warning", "ModelAPIUnavailable")]
    assert list(news(outage, status(TIMEOUT, outage, NOW))) == [], "the same for another cause"
    assert [(kind, reason) for kind, reason, _ in news(outage, up)] == [("Normal", "DependenciesReachable")]


def test_metrics_count_agents_with_a_dependency_down() -> None:

    metrics = Metrics()
    states = [
        (Key("team", name), AgentState(frozenset({("DependenciesReachable", truth)}), 1))
        for name, truth in (("a", "True"), ("b", "False"), ("c", "Unknown"))
    ]
    metrics.watch_agents(lambda: states)
    value = metrics.registry.get_sample_value
    assert value("agent_operator_agents_without_dependencies") == 1
    of = {"agent_namespace": "team", "condition": "DependenciesReachable"}
    found = [value("agent_operator_agent_condition", {**of, "agent": name}) for name in ("a", "b", "c")]
    assert found == [1, 0, None]


def test_every_connection_error_of_the_service_has_a_text_here() -> None:
    assert {*connection.KINDS, *redis_errors.REASONS} <= KINDS.keys()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("no_endpoint", "correct runtime.protocol or runtime.path"),
        ("no_health_path", "runtime.healthPath"),
        ("unreadable", "another protocol"),
        ("protocol", "does not speak HTTP"),
        ("connection_refused", "refuses connections"),
        ("overloaded", "busy"),
    ],
)
def test_a_runtime_that_cannot_be_used_is_named_with_what_to_change(kind: str, words: str) -> None:
    reading = reading_in(up("model_api", "1.0") + up("redis", "1.0") + up("runtime", "0.0") + failing("runtime", kind))

    judged = judge_dependencies(reading, {})

    assert judged is not None
    assert (judged.status, judged.reason) == ("False", "RuntimeUnavailable")
    assert "the runtime cannot be used" in judged.message
    assert words in judged.message
