"""Logs: one JSON object per line, or human-readable text; the same format for our own lines and the libraries'."""

import logging
import sys
from typing import Literal

import structlog

LogFormat = Literal["json", "text"]


def set_up(level: str, form: LogFormat) -> None:
    """Send all logs of this process at this level or above to standard error."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if form == "json":
        shared.append(structlog.processors.format_exc_info)
        last: list[structlog.typing.Processor] = [
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    else:
        last = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # The client warns of a missing file, and then raises an error for it anyway.
    logging.getLogger("kubernetes").setLevel(logging.ERROR)
    # kopf logs each of its internal tasks; the operator logs the relevant events itself.
    logging.getLogger("kopf").setLevel(max(logging.WARNING, root.level))
    # These two log the error that ends kopf, with its stack trace. The operator then logs it in one line.
    for name in ("kopf._core.reactor.orchestration", "kopf._core.reactor.running"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
