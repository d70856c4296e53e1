"""OpenTelemetry traces, when there is somewhere to send them (OTLP over HTTP).

The tracing SDK and the exporter are imported only then: they take memory and time that an agent without a collector
need not spend. They read the standard OTEL_* variables by themselves (OpenTelemetry specification, "Environment
Variable Specification").
"""

import asyncio
import logging
import os
import threading
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

import structlog
from fastapi.telemetry import TelemetryConfig
from opentelemetry.trace import NoOpTracer, Tracer

from agent_service import __version__
from agent_service.middleware.paths import PROBES
from agent_service.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_log = structlog.get_logger(__name__)

_TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"

# The last spans are worth this much of the pod's grace period, and no more: the collector may be what is away.
_CLOSE_SECONDS = 1.5


class Tracing:
    """Where spans go; nowhere when `provider` is None."""

    def __init__(self, provider: "TracerProvider | None" = None) -> None:
        self._provider = provider

    def tracer(self) -> Tracer:
        """Give what makes spans."""
        return NoOpTracer() if self._provider is None else self._provider.get_tracer("portside", __version__)

    def for_fastapi(self) -> TelemetryConfig:
        """Give FastAPI's settings: a span for each request but probes, and nothing else of what it could record."""
        return TelemetryConfig(
            tracing=self._provider is not None,
            tracer_provider=self._provider,
            metrics=False,
            logs=False,
            operation_spans=False,
            auto_configure=False,
            exclude=_is_probe,
        )

    async def close(self) -> None:
        """Send what is left, if that can be done in a moment."""
        if self._provider is None:
            return
        # A daemon: neither this nor the end of the process waits for a collector that does not answer.
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, _CLOSE_SECONDS)


def start(settings: Settings) -> Tracing:
    """Begin to collect spans, when the settings or the standard variables say where to."""
    if not _wanted(settings):
        return Tracing()
    # Not at the top: see above.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    from agent_service.spans import HideQueries, ToldOnce, resource  # noqa: PLC0415

    base = settings.otel_exporter_otlp_endpoint
    # The variable for traces alone is a whole address; the common one is a base (OTLP specification, "Endpoint URLs").
    endpoint = os.environ.get(_TRACES_ENDPOINT) or f"{(base or '').rstrip('/')}/v1/traces"
    provider = TracerProvider(resource=resource(settings), shutdown_on_exit=False)
    provider.add_span_processor(HideQueries())
    provider.add_span_processor(BatchSpanProcessor(ToldOnce(OTLPSpanExporter(endpoint=endpoint))))
    # They would log each batch that a collector did not take; ToldOnce does that once.
    for name in ("opentelemetry", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return Tracing(provider)


def _wanted(settings: Settings) -> bool:
    told = settings.otel_exporter_otlp_endpoint or os.environ.get(_TRACES_ENDPOINT)
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    elsewhere = os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() not in {"", "otlp"}
    if not told or disabled or elsewhere:
        return False
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol not in {None, "", "http/protobuf"}:
        _log.warning("OTLP protocol is not supported, sent http/protobuf", protocol=protocol)
    return True


def _is_probe(scope: MutableMapping[str, Any]) -> bool:
    return scope["path"] in PROBES
