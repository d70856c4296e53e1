"""OpenTelemetry traces, if a collector is configured (OTLP over HTTP).

The tracing SDK and the exporter are imported only then, because they take memory and time that an agent without a
collector need not spend. They read the standard OTEL_* variables themselves (OpenTelemetry specification, "Environment
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
from agent_service.config.settings import Settings
from agent_service.network.addresses import http_address
from agent_service.paths import PROBES
from agent_service.telemetry.logs import where

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_log = structlog.get_logger(__name__)

_TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
_PATH = "/v1/traces"
_CREDENTIAL_PROVIDERS = (
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER",
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER",
)

# Part of the pod's grace period that is used to send the last spans. It is short: the collector may be unavailable.
_CLOSE_SECONDS = 1.5


class Tracing:
    """The destination of spans. Traces are off if `provider` is None."""

    def __init__(self, provider: "TracerProvider | None" = None) -> None:
        self._provider = provider

    def tracer(self) -> Tracer:
        """Return the tracer that creates spans."""
        return NoOpTracer() if self._provider is None else self._provider.get_tracer("portside", __version__)

    def for_fastapi(self) -> TelemetryConfig:
        """Return FastAPI's telemetry settings: a span for each request except probes, and nothing else."""
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
        """Send the remaining spans, if that takes only a moment."""
        if self._provider is None:
            return
        # A daemon thread: neither this method nor the end of the process waits for a collector that does not answer.
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, _CLOSE_SECONDS)


def start(settings: Settings) -> Tracing:
    """Start to collect spans, if the settings or the standard variables name a collector.

    If that is not possible, one warning is logged, and the agent works without traces.
    """
    try:
        endpoint = _endpoint(settings)
        return Tracing() if endpoint is None else _collect(settings, endpoint)
    except _AddressError as error:
        _log.warning("Traces are off: the collector's address cannot be used", setting=error.setting, reason=str(error))
    except Exception as error:
        # Any value that the libraries reject in their variables or files. Their messages may quote a header's key.
        _log.warning("Traces are off: their settings cannot be used", error=type(error).__name__, where=where(error))
    return Tracing()


class _AddressError(Exception):
    """The address of the collector cannot be used."""

    def __init__(self, setting: str, words: str) -> None:
        super().__init__(words)
        self.setting = setting


def _collect(settings: Settings, endpoint: str) -> Tracing:
    # Not at the top of the file: see the module's docstring.
    from opentelemetry import propagate  # noqa: PLC0415
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    from agent_service.telemetry.span_export import HideQueries, LoggedOnce, NoPropagation, Proxied, resource  # noqa: PLC0415

    # They would log each batch that the collector did not accept; LoggedOnce logs it once. They would also log a
    # malformed header with its key.
    for name in ("opentelemetry", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # A credential provider of the platform brings its own session.
    session = None if any(map(os.environ.get, _CREDENTIAL_PROVIDERS)) else Proxied()
    provider = TracerProvider(resource=resource(settings), shutdown_on_exit=False)
    provider.add_span_processor(HideQueries())
    provider.add_span_processor(BatchSpanProcessor(LoggedOnce(OTLPSpanExporter(endpoint=endpoint, session=session))))
    if "none" in os.environ.get("OTEL_PROPAGATORS", "").split(","):
        propagate.set_global_textmap(NoPropagation())
    return Tracing(provider)


def _endpoint(settings: Settings) -> str | None:
    """Return the address that traces are sent to; None if traces are off."""
    traces, base = os.environ.get(_TRACES_ENDPOINT), settings.otel_exporter_otlp_endpoint
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    elsewhere = os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() not in {"", "otlp"}
    if not (traces or base) or disabled or elsewhere:
        return None
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol not in {None, "", "http/protobuf"}:
        _log.warning("OTLP protocol is not supported, sent http/protobuf", protocol=protocol)
    try:
        # The variable for traces is a complete address. The common one is a base (OTLP specification, "Endpoint
        # URLs"), but some users add the path to it.
        return http_address(traces) if traces else http_address(base or "").removesuffix(_PATH) + _PATH
    except ValueError as error:
        raise _AddressError(_TRACES_ENDPOINT if traces else "OTEL_EXPORTER_OTLP_ENDPOINT", str(error)) from None


def _is_probe(scope: MutableMapping[str, Any]) -> bool:
    return scope["path"] in PROBES
