"""The dashboards and the rules query existing metrics, in queries that Prometheus accepts."""

import json
import re

import pytest
import yaml

from support.docs import dashboards
from testbed import paths

FILES = paths.REPOSITORY / "helm" / "agent-operator" / "files"
DASHBOARDS = {source.stem: dashboards.load(source) for source in dashboards.sources()}
REFERENCE = (paths.REPOSITORY / "docs" / "reference" / "metrics.md").read_text()
# Words of a query that are not metrics: their operands are in parentheses, braces or quotes.
METRIC = re.compile(r"\b(?:agent|kube|process|portside:)[a-z0-9_:]*\b(?=[{\[ )>]|$)")
# Metrics of other exporters: the Prometheus client, and kube-state-metrics.
OF_OTHERS = {
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "kube_pod_container_info",
    "kube_pod_container_status_waiting_reason",
}


RULES = [rule for group in yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
EVERYTHING = {
    **{
        f"{name}: {panel}": query
        for name, each in DASHBOARDS.items()
        for panel, query in dashboards.queries(each).items()
    },
    **{rule.get("alert") or rule["record"]: rule["expr"] for rule in RULES},
}


def _known() -> set[str]:
    """Return every series that an agent, an operator or another exporter has."""
    rows = re.findall(r"^\| `(agent_\w+)` \| (\w+) \|", REFERENCE, re.MULTILINE)
    histograms = {f"{name}_{part}" for name, kind in rows if kind == "histogram" for part in ("bucket", "count", "sum")}
    return {name for name, kind in rows if kind != "histogram"} | histograms | OF_OTHERS | RECORDED


def test_there_are_the_four_dashboards() -> None:
    assert DASHBOARDS.keys() == {"portside-agent", "portside-fleet", "portside-operator", "portside-queue"}


@pytest.mark.parametrize("query", EVERYTHING.values(), ids=EVERYTHING.keys())
def test_every_metric_of_a_query_exists(query: str) -> None:
    without_labels = re.sub(r"\b(?:by|on) \([^)]*\)", "by ", re.sub(r'"[^"]*"', '""', query))
    asked = set(METRIC.findall(without_labels))
    assert asked, "a query asks for something"
    assert asked <= _known()


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_queries_the_data_source_selected_at_its_top(name: str) -> None:
    dashboard = DASHBOARDS[name]
    assert dashboard["uid"] == name
    source, *variables = dashboard["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    asking = [*variables, *dashboard["panels"], *(each for panel in dashboard["panels"] for each in panel["targets"])]
    assert {each["datasource"]["uid"] for each in asking} == {"${datasource}"}
    queries = [re.fullmatch(r"label_values\((\w+)(?:{.*})?, \w+\)", variable["query"]) for variable in variables]
    assert {query[1] for query in queries if query} <= _known()
    assert all(queries)


def test_services_are_those_of_the_selected_namespace_without_workers() -> None:
    """A worker's own Service has no requests; the panels of workers append its suffix to the agent's name."""
    for name in ("portside-agent", "portside-fleet", "portside-queue"):
        text = (dashboards.DASHBOARDS / f"{name}.json").read_text()
        [service] = [each for each in json.loads(text)["templating"]["list"] if each["name"] == "service"]
        assert service["query"] == 'label_values(agent_http_requests_total{namespace=~"$namespace"}, service)'


@pytest.mark.parametrize("name", DASHBOARDS)
def test_only_the_dashboard_of_one_agent_has_a_single_choice(name: str) -> None:
    _source, *variables = DASHBOARDS[name]["templating"]["list"]
    several = name != "portside-agent"
    assert {(each["multi"], each["includeAll"], "current" in each) for each in variables} == {(several,) * 3}


@pytest.mark.parametrize("name", ["portside-fleet", "portside-operator", "portside-queue"])
def test_the_maximum_over_pods_is_that_of_one_agent_or_release(name: str) -> None:
    queries = [target["expr"] for panel in DASHBOARDS[name]["panels"] for target in panel["targets"]]
    assert [query for query in queries if re.search(r"\bmax(?! by \(namespace, (service|pod))", query)] == []


@pytest.mark.parametrize("name", DASHBOARDS)
def test_agents_and_pods_of_the_same_name_are_distinguished_by_namespace(name: str) -> None:
    targets = [target for panel in DASHBOARDS[name]["panels"] for target in panel["targets"]]
    grouped = [re.split(", ", by) for target in targets for by in re.findall(r"\bby \(([^)]*)\)", target["expr"])]
    assert [labels for labels in grouped if {"service", "pod"} & {*labels} and "namespace" not in labels] == []
    named = [re.findall(r"{{(\w+)}}", target["legendFormat"]) for target in targets]
    assert [labels for labels in named if {"service", "pod"} & {*labels} and "namespace" not in labels] == []


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_have_unique_ids_and_do_not_overlap(name: str) -> None:
    panels = DASHBOARDS[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = [cell for panel in panels for cell in _cells(**panel["gridPos"])]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) < 24, "Grafana's grid has 24 columns"


def _cells(x: int, y: int, w: int, h: int) -> list[tuple[int, int]]:
    return [(column, row) for column in range(x, x + w) for row in range(y, y + h)]
