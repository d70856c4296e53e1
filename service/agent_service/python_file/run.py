"""The command `agent-service runtime`: load the file, and serve it until SIGTERM or Ctrl-C."""

import asyncio
import socket
import threading
from contextlib import nullcontext
from pathlib import Path

import structlog
from aiohttp import web

from agent_service.python_file import app, changes, watchdog
from agent_service.python_file.agent_file import AgentFile
from agent_service.python_file.answer_function import Loaded, find_answer
from agent_service.python_file.process import run_file
from portside.models import Models

_log = structlog.get_logger(__name__)

# The turns in progress end by their own deadlines; the platform kills the process when its own patience ends.
_DRAIN_SECONDS = 24 * 3600.0


def run(file: Path, host: str, port: int, *, reload: bool, loopback_only: bool, waits: bool = False) -> int:
    """Serve the file until the end, and return the exit code; see `run_file`.

    With `reload`, a changed file is loaded again. Turns from other machines are refused with `loopback_only`.
    """
    agent = AgentFile(file, find_answer)

    async def serve(listener: socket.socket, ending: asyncio.Event) -> None:
        await _serve(agent, listener, ending, reload=reload, loopback_only=loopback_only)

    return run_file(agent, host, port, serve, waits=waits)


async def _serve(
    agent: AgentFile[Loaded], listener: socket.socket, ending: asyncio.Event, *, reload: bool, loopback_only: bool
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

    def prepare() -> None:
        # The import takes 2 s of CPU time, and memory.
        if agent.mentions(b"anthropic"):
            models.warm_up()

    threading.Thread(target=prepare, name="warm-up", daemon=True).start()
    blocks = "Agent's file blocks all turns: await there, or use asyncio.to_thread"
    with watchdog.watching(agent.path, blocks), changes.following(agent, prepare) if reload else nullcontext():
        await ending.wait()
        _log.info("Agent's file is ending, finishes the turns in progress")
        await runner.cleanup()
        await models.close()
