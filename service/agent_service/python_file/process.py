"""The process of a Python file: signals, log, loading, port, and the end."""

import asyncio
import io
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import click
import structlog

from agent_service.lifecycle import StartError
from agent_service.python_file.agent_file import AgentFile
from agent_service.python_file.loading import FileError
from agent_service.server.listen import bind
from agent_service.telemetry import logs
from agent_service.telemetry.redact import harmless

_log = structlog.get_logger(__name__)

_FAILED = 1
_SIGNALS = (signal.SIGTERM, signal.SIGINT)

Serve = Callable[[socket.socket, asyncio.Event], Awaitable[None]]
"""Serves on a listening socket until the event is set, and then finishes what is in progress."""


def run_file(agent: AgentFile[Any], host: str, port: int, serve: Serve, *, waits: bool) -> int:
    """Load the file, serve it until SIGTERM or Ctrl-C, and return the exit code.

    If the file has an error, print it in one line on stderr. With `waits`, wait for a corrected version instead.
    """
    # Process 1 of a container has no default action. An exception could be caught by the file while it is loaded.
    for number in _SIGNALS:
        signal.signal(number, lambda *_: os._exit(0))
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What the file prints appears at once, and in order with the log.
        sys.stdout.reconfigure(line_buffering=True)
    logs.configure(level=_level(), form=_form())
    try:
        _load(agent, waits=waits)
        with bind(host, port, setting="--port or PORT") as listener:
            asyncio.run(_serve(agent.path, listener, serve))
    except (FileError, StartError) as error:
        click.echo(harmless(str(error)), err=True)
        return _FAILED
    except asyncio.CancelledError:
        _log.info("Agent's file was cut by a second signal")
    return 0


def _load(agent: AgentFile[Any], *, waits: bool) -> None:
    try:
        agent.load()
    except FileError as error:
        if not waits:
            raise
        _log.error("File of the agent has an error", error=str(error))


async def _serve(file: Path, listener: socket.socket, serve: Serve) -> None:
    ending = _on_signals()
    address, number = listener.getsockname()[:2]
    _log.info("Agent's file started", file=str(file), address=address, port=number)
    await serve(listener, ending)


def _on_signals() -> asyncio.Event:
    """Return an event that the first signal sets. The second one cancels what is left."""
    ending = asyncio.Event()
    loop, serving = asyncio.get_running_loop(), asyncio.current_task()

    def end() -> None:
        if ending.is_set() and serving is not None:
            serving.cancel()
        ending.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, end)
    return ending


def _level() -> str:
    level = os.environ.get("LOG_LEVEL", "").strip().upper()
    return level if level in {"DEBUG", "INFO", "WARNING", "ERROR"} else "INFO"


def _form() -> Literal["json", "text"]:
    return "text" if os.environ.get("LOG_FORMAT", "").strip() == "text" else "json"
