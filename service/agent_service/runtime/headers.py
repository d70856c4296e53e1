"""The headers by which the runtime knows a turn. Nothing that the client sent is among them, except its request id."""

import hashlib
import re
import secrets
from datetime import UTC, datetime

import structlog
from opentelemetry.trace import get_current_span

from agent_service.agent.messages import Prompt
from agent_service.agent.turns import BAGGAGE, Turn

SESSION = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"
"""Header that carries the id of the conversation, as Amazon Bedrock AgentCore names it."""

# AgentCore's ids have 33 characters or more (its API reference, InvokeAgentRuntime).
_SESSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{32,255}")

# W3C Trace Context, 3.2.2.5.1: the flag `sampled`. Without traces of our own, the runtime decides about its own.
_SAMPLED = 1


def of_turn(turn: Turn) -> dict[str, str]:
    """Return the headers of a turn with a JSON body: its ids, its trace and its deadline."""
    return {"Content-Type": "application/json", **of_request(turn)}


def of_request(turn: Turn) -> dict[str, str]:
    """Return the headers of a turn with any body: its ids, its trace and its deadline."""
    headers = {
        "traceparent": turn.traceparent,
        "baggage": f"{BAGGAGE}={turn.id}",
        "X-Portside-Deadline": deadline(turn),
    }
    if turn.request_id is not None:
        headers["X-Request-ID"] = turn.request_id
    return headers


def deadline(turn: Turn) -> str:
    """Return the deadline of a turn as RFC 3339 writes it, in UTC."""
    return datetime.fromtimestamp(turn.deadline, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def session_id(prompt: Prompt, turn: Turn) -> str:
    """Return the id of the prompt's conversation in the form of AgentCore's ids; a new id outside of conversations."""
    known = prompt.conversation_id or f"turn-{turn.id}"
    # While the store is away, a client may send any id.
    return known if _SESSION_ID.fullmatch(known) else hashlib.sha256(known.encode()).hexdigest()


def request_id() -> str | None:
    """Return the id of the current request, or that of the current task."""
    known = structlog.contextvars.get_contextvars()
    return known.get("request_id") or known.get("task_id")


def trace() -> tuple[str, str]:
    """Return the trace id and the `traceparent` (W3C Trace Context) of the current span; new ones without a span."""
    span = get_current_span().get_span_context()
    if span.is_valid:
        trace_id, span_id, flags = f"{span.trace_id:032x}", f"{span.span_id:016x}", int(span.trace_flags)
    else:
        trace_id, span_id, flags = secrets.token_hex(16), secrets.token_hex(8), _SAMPLED
    return trace_id, f"00-{trace_id}-{span_id}-{flags:02x}"
