"""The export of spans. Only `tracing` imports this module, and only when traces are enabled."""

import socket
import uuid
from collections.abc import Sequence
from typing import Any

import requests
import structlog
from opentelemetry.context import Context, get_current
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from agent_service import __version__
from agent_service.config.settings import Settings
from agent_service.network.proxy import proxy_for

_log = structlog.get_logger(__name__)


def resource(settings: Settings) -> Resource:
    """Return the resource of the spans. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES take precedence."""
    ours = Resource(
        {
            "service.name": "portside-agent",
            "service.version": __version__,
            "service.instance.id": str(uuid.uuid4()),
            # In Kubernetes, this is the name of the pod.
            "host.name": socket.gethostname(),
            "deployment.environment.name": settings.environment,
        }
    )
    return Resource.create().merge(ours).merge(OTELResourceDetector().detect())


class NoPropagation(TextMapPropagator):
    """Accepts no trace from callers (`OTEL_PROPAGATORS=none`). OpenTelemetry's own returns no context, which fails."""

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        """Return the context unchanged."""
        return get_current() if context is None else context

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        """Add nothing."""

    @property
    def fields(self) -> set[str]:
        """An empty set: no headers are used."""
        return set()


class Proxied(requests.Session):
    """A session that uses the proxy of the environment, by the same rules as for the model API.

    The rules of `requests` do not support IPv6 networks in NO_PROXY.
    """

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> dict[str, Any]:
        """Return the settings of a request, including its proxy."""
        settings: dict[str, Any] = super().merge_environment_settings(url, proxies, stream, verify, cert)
        proxy = proxy_for(str(url), any_scheme=True)
        settings["proxies"] = {} if proxy is None else {"http": proxy, "https": proxy}
        return settings


class HideQueries(SpanProcessor):
    """Keeps the query of a URL out of the traces, because a caller may put anything there, including keys."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Replace the query, if there is one."""
        if span.attributes and "url.query" in span.attributes:
            span.set_attribute("url.query", "REDACTED")


class LoggedOnce(SpanExporter):
    """Exports spans. Logs once when the collector stops accepting them, and once when it accepts them again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send the spans. Runs in the exporting thread."""
        try:
            result = self._exporter.export(spans)
        except Exception as error:
            self._note(failed=True, error=type(error).__name__)
            return SpanExportResult.FAILURE
        self._note(failed=result is not SpanExportResult.SUCCESS, error=None)
        return result

    def shutdown(self) -> None:
        """Shut down the exporter."""
        self._exporter.shutdown()

    def _note(self, *, failed: bool, error: str | None) -> None:
        if failed and not self._failing:
            _log.warning("Traces could not be sent", error=error)
        elif self._failing and not failed:
            _log.info("Traces could be sent again")
        self._failing = failed
