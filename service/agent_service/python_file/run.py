"""The command `agent-service runtime`: load the file, and serve it until SIGTERM or Ctrl-C."""

import asyncio
import io
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Literal

import click
import structlog
from aiohttp import web

from agent_service.lifecycle import StartError
from agent_service.python_file import app, watchdog
from agent_service.python_file.agent_file import AgentFile
from agent_service.python_file.loading import FileError
from agent_service.server.listen import bind
from agent_service.telemetry import logs
from agent_service.telemetry.redact import harmless
from portside.models import Models

_log = structlog.get_logger(__name__)

_FAILED = 1
_SIGNALS = (signal.SIGTERM, signal.SIGINT)

# The turns in progress end by their own deadlines; the platform kills the process when its own patience ends.
_DRAIN_SECONDS = 24 * 3600.0


def run(file: Path, host: str, port: int, *, reload: bool, loopback_only: bool) -> int:
    """Serve the file until the end, and return the exit code.

    If the file has an error, print it in one line on stderr. With `reload`, wait for a corrected version instead.
    """
    # Process 1 of a container has no default action. An exception could be caught by the file while it is loaded.
    for number in _SIGNALS:
        signal.signal(number, lambda *_: os._exit(0))
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What the file prints appears at once, and in order with the log.
        sys.stdout.reconfigure(line_buffering=True)
    logs.configure(level=_level(), form=_form())
    agent = AgentFile(file, reload=reload)
    try:
        _load(agent, reload=reload)
        with bind(host, port, setting="--port or PORT") as listener:
            asyncio.run(
                _serve(agent, listener, loopback_only=loopback_only, warms_up=reload or _mentions_the_sdk(file))
            )
    except (FileError, StartError) as error:
        click.echo(harmless(str(error)), err=True)
        return _FAILED
    except asyncio.CancelledError:
        _log.info("Agent's file was cut by a second signal")
    return 0


def _load(agent: AgentFile, *, reload: bool) -> None:
    try:
        agent.load()
    except FileError as error:
        if not reload:
            raise
        _log.error("File of the agent has an error", error=str(error))


async def _serve(agent: AgentFile, listener: socket.socket, *, loopback_only: bool, warms_up: bool) -> None:
    ending = _on_signals()
    models = Models()
    runner = web.AppRunner(
        app.create(agent, models, loopback_only=loopback_only),
        access_log=None,
        # A caller that disconnects cancels the file's function.
        handler_cancellation=True,
        shutdown_timeout=_DRAIN_SECONDS,
    )
    await runner.setup()
    await web.SockSite(runner, listener).start()
    address, number = listener.getsockname()[:2]
    _log.info("Agent's file started", file=str(agent.path), address=address, port=number)
    if warms_up:
        threading.Thread(target=models.warm_up, name="warm-up", daemon=True).start()
    with watchdog.watching(agent.path):
        await ending.wait()
        _log.info("Agent's file is ending, finishes the turns in progress")
        await runner.cleanup()
        await models.close()


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


def _mentions_the_sdk(file: Path) -> bool:
    """Return whether the file seems to use `turn.anthropic`. The import takes 2 s of CPU time, and memory."""
    try:
        return b"anthropic" in file.read_bytes()
    except OSError:
        return False


def _level() -> str:
    level = os.environ.get("LOG_LEVEL", "").strip().upper()
    return level if level in {"DEBUG", "INFO", "WARNING", "ERROR"} else "INFO"


def _form() -> Literal["json", "text"]:
    return "text" if os.environ.get("LOG_FORMAT", "").strip() == "text" else "json"
