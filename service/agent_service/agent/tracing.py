"""The span of a turn with the model (OpenTelemetry semantic conventions for generative AI), always without content."""

from contextlib import AbstractContextManager

from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

from agent_service.agent.messages import Usage


class TurnSpans:
    """Creates a span for each turn. `max_tokens` is the limit that each request sets."""

    def __init__(self, tracer: Tracer, *, provider: str, model: str, max_tokens: int) -> None:
        self._tracer = tracer
        self._name = f"chat {model}"
        self._attributes: dict[str, AttributeValue] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": model,
            "gen_ai.request.max_tokens": max_tokens,
            "gen_ai.request.stream": True,
        }

    def start(self) -> AbstractContextManager[Span]:
        """Start a span that is current while the context lasts."""
        # An exception's text is for the client. The span receives the type of the error from `finish`.
        return self._tracer.start_as_current_span(
            self._name,
            kind=SpanKind.CLIENT,
            attributes=self._attributes,
            record_exception=False,
            set_status_on_exception=False,
        )


def finish(span: Span, outcome: str, usage: Usage) -> None:
    """Record how the turn ended. `outcome` is that of the metrics. A client that disconnects is not an error."""
    if not span.is_recording():
        return
    span.set_attributes(
        {
            "gen_ai.usage.input_tokens": usage.input_tokens,
            "gen_ai.usage.output_tokens": usage.output_tokens,
            "portside.turn.outcome": outcome,
        }
    )
    if usage.stop_reason is not None:
        span.set_attribute("gen_ai.response.finish_reasons", [usage.stop_reason])
    if outcome not in {"ok", "cancelled"}:
        span.set_attribute("error.type", outcome)
        span.set_status(StatusCode.ERROR)
