"""Traces of tasks through the queue. A task carries the span of its submission, and each attempt is a child span of it,
whichever worker makes the attempt.

Follows the OpenTelemetry semantic conventions for messaging. Spans never include content.
"""

from contextlib import AbstractContextManager

from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from agent_service.tasks.record import Claim

# The format stored with a task, whatever format callers send (OTEL_PROPAGATORS).
_TRACE_CONTEXT = TraceContextTextMapPropagator()


def traceparent() -> str:
    """Return the current span in the format stored with a task (W3C Trace Context); empty without a current span."""
    carrier: dict[str, str] = {}
    _TRACE_CONTEXT.inject(carrier)
    return carrier.get("traceparent", "")


class TaskSpans:
    """Creates a span for each attempt at a task."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def start(self, claim: Claim) -> AbstractContextManager[Span]:
        """Start a span that is current while the context lasts, so that log lines contain its trace."""
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
    """Record that the attempt failed. `code` is the code of the task's `error`."""
    span.set_attribute("error.type", code)
    span.set_status(StatusCode.ERROR)
