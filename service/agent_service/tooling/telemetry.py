"""Metrics and spans of tool calls. Spans follow the OpenTelemetry conventions for generative AI (`execute_tool`)."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import structlog
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer

from agent_service.agent.tools import ToolResult, ToolUse
from agent_service.telemetry.metrics import Metrics
from agent_service.telemetry.redact import for_log

_log = structlog.get_logger(__name__)

_OTHER = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_LABEL = 64
# A server could list other names each time.
_MOST_LABELS = 256
_BEYOND = "other"
# 48 bits, because a value in the format of Prometheus is exact up to 53.
_HASH_DIGITS = 12
_UNKNOWN = "unknown"
_SUCCESSFUL = frozenset({"ok", "cancelled"})


class Account:
    """Counts the calls of an agent's tools."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._labels: dict[str, set[str]] = {}
        self._kinds: dict[str, str] = {}

    def offer(self, server: str, tools: list[str]) -> None:
        """Create the series of tools that can be called, so that their first call counts as an increase."""
        for tool in tools:
            label = self._label(server, tool)
            for outcome in ("ok", "error"):
                self._metrics.tool_calls.labels(server, label, outcome)
        self._metrics.tool_duration.labels(server)

    def count(self, server: str | None, tool: str, outcome: str, seconds: float) -> None:
        """Count a call. Without a server, no tool has the name."""
        if server is None:
            self._metrics.tool_calls.labels(_UNKNOWN, _UNKNOWN, outcome).inc()
            return
        self._metrics.tool_calls.labels(server, self._label(server, tool), outcome).inc()
        self._metrics.tool_duration.labels(server).observe(seconds)

    def set_state(self, server: str, *, is_up: bool, kind: str | None, digest: str | None) -> None:
        """Publish whether a server is connected, else why not, and the digest of its tools once there is one."""
        self._metrics.tool_server_up.labels(server).set(is_up)
        before = self._kinds.pop(server, None)
        if before is not None and (is_up or before != kind):
            self._metrics.tool_server_failing.labels(server, before).set(0)
        if kind is not None and not is_up:
            self._metrics.tool_server_failing.labels(server, kind).set(1)
            self._kinds[server] = kind
        if digest is not None:
            self._metrics.tool_list_hash.labels(server).set(int(digest[:_HASH_DIGITS], 16))

    def forget(self, server: str) -> None:
        """Remove the state of a server that is no longer defined."""
        if (kind := self._kinds.pop(server, None)) is not None:
            self._metrics.tool_server_failing.labels(server, kind).set(0)
        for gauge in (self._metrics.tool_server_up, self._metrics.tool_list_hash):
            with suppress(KeyError):
                gauge.remove(server)

    def _label(self, server: str, tool: str) -> str:
        known = self._labels.setdefault(server, set())
        label = _OTHER.sub("_", tool)[:_LONGEST_LABEL]
        if label not in known and len(known) >= _MOST_LABELS:
            return _BEYOND
        known.add(label)
        return label


@contextmanager
def executing(tracer: Tracer, use: ToolUse, server: str | None) -> Iterator[Span]:
    """Run the context in the span of a call. Input and result are never part of it."""
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": use.name if server is not None else _UNKNOWN,
        "gen_ai.tool.call.id": use.id,
        "gen_ai.tool.type": "extension",
    }
    if server is not None:
        attributes["portside.tool.server"] = server
    with tracer.start_as_current_span(
        f"execute_tool {attributes['gen_ai.tool.name']}",
        kind=SpanKind.INTERNAL,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        yield span


def finish(span: Span, outcome: str) -> None:
    """Record how a call ended. A caller that leaves is not an error."""
    if span.is_recording() and outcome not in _SUCCESSFUL:
        span.set_attribute("error.type", outcome)
        span.set_status(StatusCode.ERROR)


def log_call(use: ToolUse, server: str | None, outcome: str, seconds: float, detail: str | None) -> None:
    """Log a call: one that failed as a warning, any other at DEBUG, without its input and result."""
    write = _log.debug if outcome in _SUCCESSFUL or outcome == "error" else _log.warning
    write(
        "Tool was called",
        server=server,
        tool=for_log(use.name),
        outcome=outcome,
        seconds=round(seconds, 3),
        detail=None if detail is None else for_log(detail),
    )


def log_content(use: ToolUse, result: ToolResult) -> None:
    """Log the input and the texts of the result of a call, for agents that log content."""
    texts = [block["text"] for block in result.content if block["type"] == "text"]
    _log.info("Tool answered", tool=use.name, input=dict(use.input), result="\n".join(texts))
