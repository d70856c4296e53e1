"""A real Prometheus scrapes agents, workers and the operator; the dashboards and the rules work on its data."""

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_operator.api.agent import AgentDeployment
from agent_operator.api.spec import AgentSpec
from agent_operator.manifests import desired
from e2e import prometheus
from e2e.agents import AGENT, apply_agent, client, notice_kinds, put_secret, secret_spec
from e2e.prometheus import Prometheus
from e2e.traffic import Repeated, again_and_again
from stand_in import asking
from support.docs import dashboards
from support.eventually import eventually
from testbed import definitions
from testbed.cluster import Cluster
from testbed.redis import SHARED, put_redis

pytestmark = [pytest.mark.usefixtures("operator"), pytest.mark.timing]

MONITOR = "servicemonitors.monitoring.coreos.com"
# Seconds that the documents' pictures cover.
FOR_DOCUMENTS = 300
# One late scrape marks its target as down until the next, and its samples are missing for that long.
READ_SECONDS = 30
# How often a target was scraped: every second.
READINGS = "max(count_over_time(up[1h]))"
# The traffic while the queries run: answers, streams, tasks, and failures of each kind.
MESSAGES = ("Hello.", asking("Fail.", fault=500, times=9), asking("Be throttled.", fault=429))
TOOLS = """
from portside import tool


@tool
def free_berths(harbor: str) -> list[str]:
    return [f"{harbor} 3"]


@tool
def book(berth: str) -> str:
    raise ValueError(f"{berth} is taken.")
"""
CALLS = [
    {"name": "free_berths", "input": {"harbor": "Kiel"}},
    {"name": "free_berths", "input": {"harbor": "Emden"}},
    {"name": "book", "input": {"berth": "Kiel 3"}},
]


@dataclass
class Scraped:
    """The state that the tests of this file share."""

    prometheus: Prometheus
    monitored: str
    annotated: str
    traffic: list[Repeated]


@pytest.fixture(scope="module")
def scraped(real_cluster: Cluster, operator: None, model_api: str) -> Iterator[Scraped]:
    """An agent with workers and a ServiceMonitor, one found by its annotations, a Prometheus, and traffic to both."""
    with ExitStack() as stack:
        monitored, annotated, place = (stack.enter_context(real_cluster.fresh_namespace()) for _ in range(3))
        stack.enter_context(_known_monitors(real_cluster))
        for namespace in (monitored, annotated):
            put_secret(real_cluster, namespace, "key-of-the-tests")
        put_redis(real_cluster, monitored)
        watched = {
            "redis": SHARED,
            "worker": {"enabled": True},
            "monitoring": {"serviceMonitor": {"enabled": True, "interval": "1s"}},
            "tools": [{"name": "berths", "code": {"configMapKeyRef": {"name": "berths", "key": "berths.py"}}}],
        }
        real_cluster.kubectl("create", "configmap", "berths", "-n", monitored, f"--from-literal=berths.py={TOOLS}")
        apply_agent(real_cluster, annotated, secret_spec(model_api))
        apply_agent(real_cluster, monitored, secret_spec(model_api, **watched))
        monitor = real_cluster.get("servicemonitor", AGENT, "-n", monitored)
        found = stack.enter_context(prometheus.running(real_cluster, place, [monitor]))
        traffic = []
        for namespace in (monitored, annotated):
            http = stack.enter_context(client(real_cluster, namespace))
            traffic.append(stack.enter_context(again_and_again(f"traffic to {namespace}", partial(_ask, http), 0.3)))
        touch = partial(_touch, real_cluster, annotated)
        traffic.append(stack.enter_context(again_and_again("changes of the agent", touch, 1)))
        yield Scraped(found, monitored, annotated, traffic)


@contextmanager
def _known_monitors(cluster: Cluster) -> Iterator[None]:
    """Install the ServiceMonitor definition, and have the operator discover it."""
    definitions.install(cluster, "ServiceMonitor")
    try:
        notice_kinds(cluster)
        yield
    finally:
        cluster.kubectl("delete", "crd", MONITOR, "--timeout=60s")


def _touch(cluster: Cluster, namespace: str) -> None:
    """Make the operator reconcile the agent."""
    cluster.kubectl("annotate", "agentdeployment", AGENT, "-n", namespace, f"at={time.time()}", "--overwrite")


def _ask(http: httpx.Client) -> None:
    for message in MESSAGES:
        http.post("/chat", json={"message": message})
    http.post("/chat/stream", json={"message": "Hello."})
    http.post("/tasks", json={"message": "Hello."})
    http.post("/chat", json={"message": asking("Berths?", calls=[CALLS])})


@pytest.fixture(autouse=True)
def _traffic_goes_on(scraped: Scraped) -> Iterator[None]:
    """Fail a test with the reason if the traffic that it needs has ended."""
    for each in scraped.traffic:
        each.check()
    yield
    for each in scraped.traffic:
        each.check()


def _queries() -> Iterator[Any]:
    for source in dashboards.sources():
        for panel in dashboards.load(source)["panels"]:
            for target in panel["targets"]:
                yield pytest.param(target["expr"], id=f"{source.stem}: {panel['title']} {target['refId']}")


@pytest.mark.parametrize("query", list(_queries()))
def test_every_panel_of_the_dashboards_shows_data(scraped: Scraped, query: str) -> None:
    def numbers() -> list[float]:
        return [float(each["value"][1]) for each in scraped.prometheus.query(query)]

    eventually(lambda: any(math.isfinite(number) for number in numbers()), f"data for {query}", 90)


@pytest.mark.parametrize("source", dashboards.sources(), ids=lambda source: source.stem)
def test_a_dashboard_is_drawn(scraped: Scraped, source: Path, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Each line has its own name, from labels that its series have."""
    for_documents = pytestconfig.getoption("--pictures")
    seconds = FOR_DOCUMENTS if for_documents else 30
    eventually(lambda: scraped.prometheus.value(READINGS) > seconds, f"{seconds} seconds of data", 2 * seconds)
    target = dashboards.picture(source) if for_documents else tmp_path / "dashboard.png"
    one = {"namespace": scraped.monitored, "service": AGENT}
    dashboards.draw(source, target, one, partial(scraped.prometheus.since, seconds=seconds))
    assert target.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("portside-agent", "agent_build_info"),
        ("portside-queue", "agent_build_info"),
        ("portside-operator", "agent_operator_is_leader"),
    ],
)
def test_a_dashboard_shows_only_the_pods_of_its_own_agent(scraped: Scraped, name: str, ours: str) -> None:
    def pods(query: str) -> set[str]:
        return {each["metric"]["pod"] for each in scraped.prometheus.query(query)}

    panels = dashboards.load(dashboards.DASHBOARDS / f"{name}.json")["panels"]
    queries = [each["expr"] for panel in panels for each in panel["targets"] if "{{pod}}" in each["legendFormat"]]
    assert queries
    for query in queries:
        eventually(partial(pods, query), f"data for {query}", 60)
        assert pods(query) <= pods(ours)


def test_agents_workers_and_operators_are_each_scraped_once(scraped: Scraped) -> None:
    def health() -> set[str]:
        return {target["health"] for target in scraped.prometheus.targets()}

    eventually(lambda: health() == {"up"}, "all targets are up", READ_SECONDS)
    targets = scraped.prometheus.targets()
    places = [(each["labels"]["namespace"], each["labels"]["service"]) for each in targets]
    assert places.count((scraped.monitored, AGENT)) == 1
    assert places.count((scraped.monitored, f"{AGENT}-worker")) == 1
    assert places.count((scraped.annotated, AGENT)) == 1
    assert places.count(("portside-system", "agent-operator")) == 2
    assert len({each["scrapeUrl"] for each in targets}) == len(targets), "no pod is read twice"


def test_the_rules_work(scraped: Scraped) -> None:
    eventually(lambda: all(rule["health"] == "ok" for rule in scraped.prometheus.rules()), "all rules were tried", 30)
    names = {rule["name"] for rule in scraped.prometheus.rules()}
    assert {"AgentModelThrottled", "AgentNotReady", "AgentNotScaling"} <= names
    # Part of the traffic fails: the alert on that is pending.
    eventually(lambda: _pending(scraped, "AgentModelThrottled"), "it is pending", 60)


def test_the_absence_of_any_scraped_agent_would_be_detected(scraped: Scraped) -> None:
    """The operator's labels and those of the scrapes name the same agent, however Prometheus discovered it."""
    [rule] = _rules(scraped, "AgentNotScraped")
    present_as_if_past = rule["query"].replace("[1d:10m]", "[1d:5s]").replace("unless on", "and on")
    assert rule["query"] != present_as_if_past

    def missed() -> set[tuple[str, str]]:
        found = [each["metric"] for each in scraped.prometheus.query(present_as_if_past)]
        return {(each["agent_namespace"], each["agent"]) for each in found}

    eventually(lambda: missed() >= {(scraped.monitored, AGENT), (scraped.annotated, AGENT)}, "both are known", 60)
    eventually(lambda: not _pending(scraped, "AgentNotScraped"), "neither is missed", READ_SECONDS)


def _pending(scraped: Scraped, name: str) -> bool:
    return any(rule["state"] in {"pending", "firing"} for rule in _rules(scraped, name))


def _rules(scraped: Scraped, name: str) -> list[dict[str, Any]]:
    return [rule for rule in scraped.prometheus.rules() if rule["name"] == name]


def test_clients_of_the_service_cannot_read_metrics(real_cluster: Cluster, scraped: Scraped) -> None:
    with client(real_cluster, scraped.annotated) as http:
        assert http.get("/metrics").status_code == 404


def test_the_queries_of_keda_return_values(scraped: Scraped) -> None:
    scaled = {
        "enabled": True,
        "engine": "keda",
        "prometheusAddress": scraped.prometheus.url,
        "targetInFlightRequests": 5,
    }
    worker = {"enabled": True, "autoscaling": {"enabled": True}}
    spec = AgentSpec.model_validate(
        {"agent": {"provider": "echo"}, "redis": SHARED, "autoscaling": scaled, "worker": worker}
    )
    objects = desired(AgentDeployment(AGENT, scraped.monitored, spec))
    queries = [
        each["metadata"]["query"]
        for found in objects
        if found["kind"] == "ScaledObject"
        for each in found["spec"]["triggers"]
    ]
    assert len(queries) == 2

    def answers() -> list[int]:
        return [len(scraped.prometheus.query(query)) for query in queries]

    eventually(lambda: answers() == [1, 1], "each has one answer", READ_SECONDS)


def test_an_agent_takes_few_series(scraped: Scraped) -> None:
    """docs/reference/observability.md has the figures; ten thousand odd requests add none (tests/service)."""
    for service in (AGENT, f"{AGENT}-worker"):
        count = f'count({{namespace="{scraped.monitored}", service="{service}", __name__!~"scrape_.*|up"}})'
        # A process that was scraped during its start had not created all of its series.
        read = partial(scraped.prometheus.value, f"{count} > 50")
        eventually(read, "all of it is read", READ_SECONDS)
        series = scraped.prometheus.value(count)
        print(f"{service}: {series:.0f} series")  # noqa: T201
        assert series < 400
