"""Logging: one format, JSON or text, for our own lines and those of the libraries, on standard output.

User messages and keys are never logged. The libraries that would log them at DEBUG are held at WARNING.
"""

import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, Literal

import orjson
import structlog
from opentelemetry.trace import format_span_id, format_trace_id, get_current_span

# The SDK logs whole request bodies at DEBUG (also through its ANTHROPIC_LOG variable). The HTTP libraries log headers.
_TALKATIVE = ("anthropic", "httpx2", "httpcore2", "aiohttp", "asyncio")
# The SDK of MCP logs what servers answer, at every level. Its logger `client` has no parent of that name.
# The SDK of A2A logs what clients send, with tracebacks.
_SILENT = frozenset({"mcp", "client", "a2a"})


def where(error: BaseException) -> str:
    """Return the traceback of an exception without its message, which can quote what a user wrote."""
    return "".join(traceback.format_tb(error.__traceback__))


def _discreet(record: logging.LogRecord) -> bool:
    """Return whether a library's line may be written.

    The level of its logger is not enough, because the SDK sets its own level when imported.
    """
    library = record.name.partition(".")[0]
    return library not in _SILENT and (record.levelno >= logging.WARNING or library not in _TALKATIVE)


def _add_trace(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Add the ids of the current trace and span to a line (OpenTelemetry, "Trace Context in non-OTLP Log Formats")."""
    context = get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = format_trace_id(context.trace_id)
        event["span_id"] = format_span_id(context.span_id)
    return event


class _Clock:
    """Adds the time to a line, as ISO 8601 in UTC. The date and time of a second are formatted once."""

    def __init__(self) -> None:
        self._second = (0, "")

    def __call__(self, _: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        second, fraction = divmod(time.time_ns(), 1_000_000_000)
        # Read and replaced as one object, because threads log too.
        known, text = self._second
        if second != known:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = (second, text)
        event["timestamp"] = f"{text}.{fraction // 1000:06d}Z"
        return event


class _Output:
    """Writes finished lines to standard output, one at a time."""

    def __init__(self, name: str) -> None:
        self.name = name

    def msg(self, line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    debug = info = warning = error = critical = msg


def _json(event: dict[str, Any], default: Callable[[Any], Any], **_: Any) -> str:
    try:
        return orjson.dumps(event, default=default).decode()
    except TypeError:
        # For example half a surrogate pair: UTF-8 cannot encode it, but a JSON escape can.
        return json.dumps(event, default=default)


def _sign(process: int) -> Callable[[Any, str, structlog.typing.EventDict], structlog.typing.EventDict]:
    pid = os.getpid()

    def sign(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["process"] = process
        event["pid"] = pid
        return event

    return sign


def configure(*, level: str, form: Literal["json", "text"], process: int | None = None) -> None:
    """Send everything that this process logs through one formatter.

    Args:
        level: lowest level that is written, such as `INFO`.
        form: `json` for one object per line, `text` for people.
        process: number of this process, where several write to one log. Each line then has it, and the process id.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        _add_trace,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _Clock(),
        *([] if process is None else [_sign(process)]),
    ]
    if form == "json":
        last: list[Any] = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_json),
        ]
    else:
        # Locals in a traceback would show messages and keys.
        plain = structlog.dev.plain_traceback
        last = [structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), exception_formatter=plain)]
    # Our own lines bypass the standard library, which creates a record for each and took three times as long.
    structlog.configure(
        processors=[*shared, *last],
        logger_factory=_Output,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    handler.addFilter(_discreet)
    logging.captureWarnings(capture=True)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in _SILENT:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = True
