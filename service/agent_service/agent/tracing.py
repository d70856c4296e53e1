"""The span of a turn with the model or the runtime, always without content.

Follows the OpenTelemetry semantic conventions for generative AI.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Self

from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

from agent_service.agent.messages import Usage


class TurnSpans:
    """Creates a span for each turn, with the same name and attributes."""

    def __init__(self, tracer: Tracer, name: str, attributes: Mapping[str, AttributeValue]) -> None:
        self._tracer = tracer
        self._name = name
        self._attributes = attributes

    @classmethod
    def of_model(cls, tracer: Tracer, *, provider: str, model: str, max_tokens: int) -> Self:
        """Return the spans of turns with a model. `max_tokens` is the limit that each request sets."""
        attributes: dict[str, AttributeValue] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider,
            "gen_ai.request.model": model,
            "gen_ai.request.max_tokens": max_tokens,
            "gen_ai.request.stream": True,
        }
        return cls(tracer, f"chat {model}", attributes)

    @classmethod
    def of_runtime(cls, tracer: Tracer, protocol: str) -> Self:
        """Return the spans of turns by the runtime, which is called in `protocol`."""
        attributes: dict[str, AttributeValue] = {
            "gen_ai.operation.name": "invoke_agent",
            # The runtime may use any model, or several.
            "gen_ai.provider.name": "portside",
            "portside.runtime.protocol": protocol,
        }
        return cls(tracer, f"invoke_agent {protocol}", attributes)

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
