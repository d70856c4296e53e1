"""Counts every call to the model: usage, metrics, limits, the turn that it belongs to, its span and its log line."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import structlog
from opentelemetry.trace import INVALID_SPAN, NoOpTracer, Span, SpanKind, Tracer

from agent_service.agent.errors import OUTCOMES
from agent_service.agent.messages import Usage
from agent_service.agent.tracing import finish
from agent_service.agent.turns import Turn
from agent_service.gateway.attribution import parent_of
from agent_service.telemetry.exposition import exemplar
from agent_service.telemetry.metrics import Metrics

_log = structlog.get_logger(__name__)


class Accounts:
    """Counts the calls of one process."""

    def __init__(
        self,
        metrics: Metrics,
        tracer: Tracer,
        *,
        charge: Callable[[Usage, str | None], None],
        provider: str,
        models: tuple[str, ...],
    ) -> None:
        """Set up the counters.

        Args:
            metrics: counts the calls.
            tracer: creates a span for each call.
            charge: called with the usage of each call, and the client of its turn.
            provider: name of the model's provider.
            models: the models that may be called.
        """
        # Even spans that record nothing take time.
        self._tracer = None if isinstance(tracer, NoOpTracer) else tracer
        # Bound once: the proxy would create a logger for every line.
        self._log = _log.bind()
        self._charge = charge
        self._provider = provider
        # Created up front: Prometheus sees no increase in a series that first appears with a value.
        self._outcomes = {
            (model, outcome): metrics.model_requests.labels(model, outcome)
            for model in models
            for outcome in ("ok", "cancelled", *OUTCOMES)
        }
        tokens = metrics.tokens.labels
        self._of_models = {
            model: (metrics.model_duration.labels(model), tokens(model, "input"), tokens(model, "output"))
            for model in models
        }

    def span(
        self, model: str, headers: Mapping[str, str], turn: Turn | None, *, streamed: bool
    ) -> AbstractContextManager[Span]:
        """Start a span that is current while the context lasts: a child of the caller's, else of the turn's."""
        if self._tracer is None:
            return nullcontext(INVALID_SPAN)
        return self._tracer.start_as_current_span(
            f"chat {model}",
            context=parent_of(headers, turn),
            kind=SpanKind.CLIENT,
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": self._provider,
                "gen_ai.request.model": model,
                "gen_ai.request.stream": streamed,
            },
            record_exception=False,
            set_status_on_exception=False,
        )

    def close(self, model: str, outcome: str, usage: Usage, *, started: float, span: Span, turn: Turn | None) -> None:
        """Count a call that has ended. `started` is the time of `perf_counter` at its start."""
        model = usage.model or model
        seconds = time.perf_counter() - started
        self._charge(usage, None if turn is None else turn.client)
        if turn is not None:
            turn.usage.add(usage)
        self._outcomes[model, outcome].inc()
        duration, sent, received = self._of_models[model]
        duration.observe(seconds, exemplar())
        sent.inc(usage.input_tokens)
        received.inc(usage.output_tokens)
        finish(span, outcome, usage)
        # As with turns of the built-in agent: metrics and spans count what succeeds, and the log has what does not.
        write = self._log.debug if outcome in {"ok", "cancelled"} else self._log.warning
        write(
            "Runtime called the model",
            model=model,
            outcome=outcome,
            seconds=round(seconds, 4),
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
        )


def outcome_of(status: int) -> str:
    """Return the outcome of a call by the status of its answer."""
    if status < 400:  # noqa: PLR2004
        return "ok"
    known = {408: "timed_out", 429: "rate_limited", 503: "overloaded", 504: "timed_out", 529: "overloaded"}
    return known.get(status) or ("failed" if status >= 500 else "refused")  # noqa: PLR2004
