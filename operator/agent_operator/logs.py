"""Logs: one JSON object a line, or text for people; our own lines and the libraries' in one form."""

import logging
import sys
from typing import Literal

import structlog

LogFormat = Literal["json", "text"]


def set_up(level: str, form: LogFormat) -> None:
    """Send all logs of this process to standard error, at this level or above."""
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
    # The client warns of a missing file, and then raises an error for it all the same.
    logging.getLogger("kubernetes").setLevel(logging.ERROR)
    # kopf tells of each of its inner tasks; what matters to us we say ourselves.
    logging.getLogger("kopf").setLevel(max(logging.WARNING, root.level))
    # These two log, stack and all, the error that ends kopf, and which we then tell in one line.
    for name in ("kopf._core.reactor.orchestration", "kopf._core.reactor.running"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
