"""Finds the turn that caused a call, by the headers that the runtime passes on."""

import re
from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from agent_service.agent.turns import BAGGAGE, Turn, Turns

# W3C Trace Context, "traceparent Header".
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")

_MEMBER = f"{BAGGAGE}="

# The format of the callers' header, whatever format clients of the agent send (OTEL_PROPAGATORS).
_TRACE_CONTEXT = TraceContextTextMapPropagator()


def turn_of(headers: Mapping[str, str], turns: Turns) -> Turn | None:
    """Return the turn of a call; None if its headers identify none in this process."""
    trace = _TRACEPARENT.fullmatch(headers.get("traceparent", "").strip())
    return turns.find(
        turn_id=_turn_id(headers.get("baggage", "")),
        trace_id=None if trace is None else trace[1],
        request_id=headers.get("X-Request-ID"),
    )


def parent_of(headers: Mapping[str, str], turn: Turn | None) -> Context:
    """Return the context of the caller's span, else of the turn's; an empty one if neither is known."""
    parent = headers.get("traceparent") or ("" if turn is None else turn.traceparent)
    return _TRACE_CONTEXT.extract({"traceparent": parent}, Context()) if parent else Context()


def _turn_id(baggage: str) -> str | None:
    for member in baggage.split(","):
        text = member.strip()
        if text.startswith(_MEMBER):
            return text[len(_MEMBER) :].partition(";")[0].strip()
    return None
