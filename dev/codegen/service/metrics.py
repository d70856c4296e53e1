"""The reference of the metrics, from the registry."""

from prometheus_client import CollectorRegistry, Info
from prometheus_client.metrics import MetricWrapperBase

from codegen.service import markdown
from codegen.service.markdown import code

# The suffix that the text format adds to a metric's name (OpenMetrics, 4.1.1).
_SUFFIX = {"counter": "_total", "info": "_info"}

_ABOUT = (
    "In the Prometheus text format at `/metrics`, or on a port of its own with `METRICS_PORT`. Beside these there are "
    "the usual `process_…` and `python_…` of the Prometheus client, unless several processes answer (`API_WORKERS`): "
    "then the values of all of them are added up, and a single one's would say little. All durations are in seconds; "
    "of a histogram there are `…_bucket`, `…_sum` and `…_count`."
)


def reference(registry: CollectorRegistry) -> str:
    """Return the page, in Markdown."""
    rows = sorted(_row(collector) for collector in _ours(registry))
    return markdown.page(
        [
            "# Metrics of the agent API",
            _ABOUT,
            markdown.table(["metric", "type", "labels", "what it says"], rows),
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
