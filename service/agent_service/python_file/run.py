"""The command `agent-service runtime`: load the file, and serve it until SIGTERM or Ctrl-C."""

import asyncio
import io
import os
import signal
import socket
import sys
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import click
import structlog
from aiohttp import web

from agent_service.lifecycle import StartError
from agent_service.python_file import app, changes, watchdog
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


def run(file: Path, host: str, port: int, *, reload: bool, loopback_only: bool, waits: bool = False) -> int:
    """Serve the file until the end, and return the exit code.

    Args:
        file: the file. If it has an error at the start, that is printed in one line on stderr.
        host: address to listen on.
        port: port to listen on, 0 for any.
        reload: load the file again when it has changed.
        loopback_only: refuse turns of callers on other machines.
        waits: if the file has an error at the start, wait for a corrected version instead of ending.
    """
    # Process 1 of a container has no default action. An exception could be caught by the file while it is loaded.
    for number in _SIGNALS:
        signal.signal(number, lambda *_: os._exit(0))
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What the file prints appears at once, and in order with the log.
        sys.stdout.reconfigure(line_buffering=True)
    logs.configure(level=_level(), form=_form())
    agent = AgentFile(file)
    try:
        _load(agent, waits=waits)
        with bind(host, port, setting="--port or PORT") as listener:
            asyncio.run(_serve(agent, listener, reload=reload, loopback_only=loopback_only))
    except (FileError, StartError) as error:
        click.echo(harmless(str(error)), err=True)
        return _FAILED
    except asyncio.CancelledError:
        _log.info("Agent's file was cut by a second signal")
    return 0


def _load(agent: AgentFile, *, waits: bool) -> None:
    try:
        agent.load()
    except FileError as error:
        if not waits:
            raise
        _log.error("File of the agent has an error", error=str(error))


async def _serve(agent: AgentFile, listener: socket.socket, *, reload: bool, loopback_only: bool) -> None:
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
    if changes.mentions_the_sdk(agent):
        threading.Thread(target=models.warm_up, name="warm-up", daemon=True).start()
    with watchdog.watching(agent.path), changes.following(agent, models) if reload else nullcontext():
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


def _level() -> str:
    level = os.environ.get("LOG_LEVEL", "").strip().upper()
    return level if level in {"DEBUG", "INFO", "WARNING", "ERROR"} else "INFO"


def _form() -> Literal["json", "text"]:
    return "text" if os.environ.get("LOG_FORMAT", "").strip() == "text" else "json"
