"""A task's way through the queue in traces: it travels with the span that it came with, and each attempt at it is a
span under that one, whichever worker makes it.

By the OpenTelemetry semantic conventions for messaging. Never with content.
"""

from contextlib import AbstractContextManager

from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from agent_service.tasks.queue import Claim

# What is kept with a task, whatever callers send (OTEL_PROPAGATORS).
_TRACE_CONTEXT = TraceContextTextMapPropagator()


def traceparent() -> str:
    """Give the current span as a task is to carry it (W3C Trace Context); empty where there is none."""
    carrier: dict[str, str] = {}
    _TRACE_CONTEXT.inject(carrier)
    return carrier.get("traceparent", "")


class TaskSpans:
    """Makes a span for each attempt at a task."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def start(self, claim: Claim) -> AbstractContextManager[Span]:
        """Begin a span, which is the current one as long as the context lasts; so log lines name its trace."""
        return self._tracer.start_as_current_span(
            "process tasks",
            context=_TRACE_CONTEXT.extract({"traceparent": claim.traceparent}),
            kind=SpanKind.CONSUMER,
            attributes={
                "messaging.system": "portside",
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
                "messaging.destination.name": "tasks",
                "messaging.message.id": claim.id,
                "portside.task.attempt": claim.attempt,
            },
            record_exception=False,
            set_status_on_exception=False,
        )


def fail(span: Span, code: str) -> None:
    """Say that the attempt failed, and with which code of a task's `error`."""
    span.set_attribute("error.type", code)
    span.set_status(StatusCode.ERROR)
