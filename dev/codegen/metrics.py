"""The reference of all metrics, from the registries of the agent API and of the operator."""

from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Info
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics import MetricWrapperBase

from agent_operator.controller.metrics import Metrics
from codegen import markdown
from codegen.markdown import code
from codegen.service import documented_app

# The suffix that the text format adds to a metric's name (OpenMetrics, 4.1.1).
_SUFFIX = {"counter": "_total", "info": "_info"}

_OF_AGENTS = (
    "Served in the Prometheus text format at `/metrics`, or on a separate port with `METRICS_PORT`. The usual "
    "`process_…` and `python_…` metrics of the Prometheus client are served too, unless several processes answer "
    "(`API_WORKERS`): then the values of all processes are summed, and those of a single process are not meaningful. "
    "All durations are in seconds; a histogram has `…_bucket`, `…_sum` and `…_count`."
)


_OF_OPERATORS = (
    "Served at `/metrics` of the operator's health port (8080), with the usual `process_…` and `python_…` metrics. "
    "[Operate the operator](../how-to/operate-the-operator.md) describes how to read them."
)
_COLUMNS = ["metric", "type", "labels", "description"]

Row = tuple[str, str, str, str]


def files(_: Path) -> dict[str, str]:
    """Return the page: its path below the repository's root, mapped to its content."""
    return {"docs/reference/metrics.md": _page()}


def _page() -> str:
    operator = Metrics()
    operator.watch_agents(list)
    operator.watch_watches(dict)
    agent = documented_app().state.components.metrics
    return markdown.page(
        [
            "# Metrics",
            "## Metrics of the agent API",
            _OF_AGENTS,
            markdown.table(_COLUMNS, sorted(_rows(agent.registry))),
            "## Metrics of the operator",
            _OF_OPERATORS,
            markdown.table(_COLUMNS, sorted(_rows(operator.registry))),
        ]
    )


def _rows(registry: CollectorRegistry) -> Iterator[Row]:
    """Yield a row for each of our metrics: those with values of their own, and those computed at each scrape."""
    # There is no public API for the collectors of a registry, or for the labels of a metric that has no samples yet.
    for collector in registry._collector_to_names:
        if isinstance(collector, MetricWrapperBase):
            [metric] = collector.describe()
            labels = [*collector._labelnames, *(collector._value if isinstance(collector, Info) else ())]
            yield _row(metric.name, metric.type, labels, metric.documentation)
    for family in registry.collect():
        if isinstance(family, GaugeMetricFamily) and family.name.startswith("agent_"):
            yield _row(family.name, family.type, list(family._labelnames), family.documentation)


def _row(name: str, kind: str, labels: list[str], about: str) -> Row:
    return code(name + _SUFFIX.get(kind, "")), kind, ", ".join(map(code, labels)), about
