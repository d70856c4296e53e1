"""The command `agent-service tools`: load the file, and serve its tools until SIGTERM or Ctrl-C."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import structlog
import uvicorn

from agent_service.python_file import changes, watchdog
from agent_service.python_file.agent_file import AgentFile
from agent_service.python_file.local_tools import app
from agent_service.python_file.local_tools.definitions import LocalTools, find_tools
from agent_service.python_file.local_tools.mcp_server import ToolServer
from agent_service.python_file.process import run_file

_log = structlog.get_logger(__name__)

_BLOCKS = "Tool blocks all calls: await there, or write `def` in place of `async def`"


def run(file: Path, host: str, port: int, *, reload: bool, loopback_only: bool, waits: bool = False) -> int:
    """Serve the tools of the file until the end, and return the exit code; see `run_file`.

    With `reload`, a changed file is loaded again. Calls from other machines are refused with `loopback_only`.
    """
    agent = AgentFile(file, find_tools)

    async def serve(listener: socket.socket, ending: asyncio.Event) -> None:
        await _serve(agent, listener, ending, reload=reload, loopback_only=loopback_only)

    return run_file(agent, host, port, serve, waits=waits)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the process."""
        yield


async def _serve(
    agent: AgentFile[LocalTools], listener: socket.socket, ending: asyncio.Event, *, reload: bool, loopback_only: bool
) -> None:
    tools = ToolServer(agent)
    served = app.create(agent, tools, reload=reload, loopback_only=loopback_only)
    # It waits without limit for the calls in progress, which their callers limit.
    server = _Server(
        uvicorn.Config(
            served,
            lifespan="on",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
        )
    )
    with watchdog.watching(agent.path, _BLOCKS), changes.following(agent) if reload else nullcontext():
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        waiting = asyncio.create_task(ending.wait())
        await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
        _log.info("Agent's file is ending, finishes the calls in progress")
        tools.end_listening()
        server.should_exit = True
        await serving
