"""The formats of metrics: the Prometheus text format, or OpenMetrics, the only one with exemplars.

An exemplar links a histogram to one of the traces that it counted (OpenMetrics 1.0, "Exemplars").
"""

from collections.abc import Callable
from typing import NamedTuple

from opentelemetry.trace import format_trace_id, get_current_span
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics

_OPENMETRICS = "application/openmetrics-text"


class Exposition(NamedTuple):
    """Metrics in the form of a response."""

    body: bytes
    content_type: str


Expose = Callable[[str], Exposition]
"""Returns the metrics in the format that the value of an `Accept` header asks for.

An empty value means the Prometheus text format.
"""


def expose(registry: CollectorRegistry, accept: str) -> Exposition:
    """Return all metrics of the registry, in the format that an `Accept` header with this value asks for."""
    # Not prometheus_client's choose_encoder, which fails on an invalid version.
    if any(part.partition(";")[0].strip() == _OPENMETRICS for part in accept.split(",")):
        return Exposition(openmetrics.generate_latest(registry), openmetrics.CONTENT_TYPE_LATEST)  # type: ignore[no-untyped-call]
    return Exposition(generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4)


def exemplar() -> dict[str, str] | None:
    """Return the id of the current trace as an exemplar, or None if the trace is not sampled."""
    context = get_current_span().get_span_context()
    return {"trace_id": format_trace_id(context.trace_id)} if context.trace_flags.sampled else None
