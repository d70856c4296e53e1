"""The command `agent-service runtime`: load the file, and serve it until SIGTERM or Ctrl-C."""

import asyncio
import socket
import threading
from pathlib import Path

import structlog
from aiohttp import web

from agent_service.python_file import app, watchdog
from agent_service.python_file.agent_file import AgentFile
from agent_service.python_file.answer_function import Loaded, find_answer
from agent_service.python_file.process import run_file
from portside.models import Models

_log = structlog.get_logger(__name__)

# The turns in progress end by their own deadlines; the platform kills the process when its own patience ends.
_DRAIN_SECONDS = 24 * 3600.0


def run(file: Path, host: str, port: int, *, reload: bool, loopback_only: bool) -> int:
    """Serve the file until the end, and return the exit code; see `run_file`."""
    agent = AgentFile(file, find_answer, reload=reload)
    warms_up = reload or _mentions_the_sdk(file)

    async def serve(listener: socket.socket, ending: asyncio.Event) -> None:
        await _serve(agent, listener, ending, loopback_only=loopback_only, warms_up=warms_up)

    return run_file(agent, host, port, serve, reload=reload)


async def _serve(
    agent: AgentFile[Loaded], listener: socket.socket, ending: asyncio.Event, *, loopback_only: bool, warms_up: bool
) -> None:
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
    if warms_up:
        threading.Thread(target=models.warm_up, name="warm-up", daemon=True).start()
    with watchdog.watching(agent.path, "Agent's file blocks all turns: await there, or use asyncio.to_thread"):
        await ending.wait()
        _log.info("Agent's file is ending, finishes the turns in progress")
        await runner.cleanup()
        await models.close()


def _mentions_the_sdk(file: Path) -> bool:
    """Return whether the file seems to use `turn.anthropic`. The import takes 2 s of CPU time, and memory."""
    try:
        return b"anthropic" in file.read_bytes()
    except OSError:
        return False
