"""How metrics are written for who asks: the Prometheus text format, or OpenMetrics, which alone has exemplars.

An exemplar leads from a histogram to one of the traces that it counted (OpenMetrics 1.0, "Exemplars").
"""

from collections.abc import Callable
from typing import NamedTuple

from opentelemetry.trace import format_trace_id, get_current_span
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics

_OPENMETRICS = "application/openmetrics-text"


class Exposition(NamedTuple):
    """Metrics as they are answered."""

    body: bytes
    content_type: str


Expose = Callable[[str], Exposition]
"""Gives the metrics as the value of an `Accept` header wants them; empty for the Prometheus text format."""


def expose(registry: CollectorRegistry, accept: str) -> Exposition:
    """Write all metrics of the registry."""
    # Not prometheus_client's choose_encoder, which fails on a version that is none.
    if any(part.partition(";")[0].strip() == _OPENMETRICS for part in accept.split(",")):
        return Exposition(openmetrics.generate_latest(registry), openmetrics.CONTENT_TYPE_LATEST)  # type: ignore[no-untyped-call]
    return Exposition(generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4)


def exemplar() -> dict[str, str] | None:
    """Give the trace that this code runs in, if somebody keeps it."""
    context = get_current_span().get_span_context()
    return {"trace_id": format_trace_id(context.trace_id)} if context.trace_flags.sampled else None
