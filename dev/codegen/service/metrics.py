"""The reference of the metrics, from the registry."""

from prometheus_client import CollectorRegistry, Info
from prometheus_client.metrics import MetricWrapperBase

from codegen.service import markdown
from codegen.service.markdown import code

# The suffix that the text format adds to a metric's name (OpenMetrics, 4.1.1).
_SUFFIX = {"counter": "_total", "info": "_info"}

_ABOUT = (
    "Served in the Prometheus text format at `/metrics`, or on a separate port with `METRICS_PORT`. The usual "
    "`process_…` and `python_…` metrics of the Prometheus client are served too, unless several processes answer "
    "(`API_WORKERS`): then the values of all processes are summed, and those of a single process are not meaningful. "
    "All durations are in seconds; a histogram has `…_bucket`, `…_sum` and `…_count`."
)


def reference(registry: CollectorRegistry) -> str:
    """Return the page, in Markdown."""
    rows = sorted(_row(collector) for collector in _ours(registry))
    return markdown.page(
        [
            "# Metrics of the agent API",
            _ABOUT,
            markdown.table(["metric", "type", "labels", "description"], rows),
        ]
    )


def _ours(registry: CollectorRegistry) -> list[MetricWrapperBase]:
    # There is no public API for the collectors of a registry, or for the labels of a metric that has no samples yet.
    collectors = registry._collector_to_names
    return [collector for collector in collectors if isinstance(collector, MetricWrapperBase)]


def _row(collector: MetricWrapperBase) -> list[str]:
    [metric] = collector.describe()
    labels = list(collector._labelnames)
    if isinstance(collector, Info):
        labels += collector._value
    name = metric.name + _SUFFIX.get(metric.type, "")
    return [code(name), metric.type, ", ".join(code(label) for label in labels), metric.documentation]
