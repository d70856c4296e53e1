"""MCP servers that tests start, stop and restart: our own on the official SDK, hostile ones, and published packages."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from support.eventually import eventually, eventually_async
from support.npm import node, packages
from testbed.errors import TestbedError
from testbed.ports import free_port

_HERE = Path(__file__).parent
START_SECONDS = 60


class McpServer:
    """A server in a process of its own, which keeps its port when it is restarted."""

    def __init__(self, folder: Path, command: list[str | Path], environment: dict[str, str], port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/mcp"
        self.folder = folder
        self._command = command
        self._environment = environment
        self._log = folder / f"server-{port}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "McpServer":
        """Start the process, and wait until it accepts connections."""
        self.launch()
        eventually(self._accepts, f"the server on port {self.port} accepts connections", START_SECONDS)
        return self

    def launch(self) -> None:
        """Start the process, and do not wait for it."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                env=os.environ | self._environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        """End the process at once, as a node that fails does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """End the process, and start another one on the same port."""
        self.kill()
        self.start()

    def log(self) -> str:
        """Return what the server wrote."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def recorded(self) -> list[dict[str, Any]]:
        """Return what tools of the server recorded, one entry a call."""
        file = self.folder / "calls.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def _accepts(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise TestbedError(f"The server ended with {self._process.returncode}:\n{self.log()}")
        try:
            httpx.get(self.url, timeout=5, headers={"accept": "application/json"})
        except httpx.TransportError:
            return False
        return True


StartServer = Callable[..., McpServer]
"""Starts a server: one of the functions below, with options."""


async def eventually_recorded(server: McpServer, event: str, count: int = 1) -> None:
    """Wait until the server recorded an event `count` times."""

    async def seen() -> bool:
        return len([call for call in server.recorded() if call.get("event") == event]) >= count

    await eventually_async(seen, f"the server recorded {event}")


def sdk_server(folder: Path, **options: object) -> McpServer:
    """Return a server on the official SDK, not started; `options` are those of `sdk_server.py`."""
    return _python("sdk_server.py", folder, options)


def hostile_server(folder: Path, **options: object) -> McpServer:
    """Return a server that does what the SDK would not, not started; `options` are those of `hostile_server.py`."""
    return _python("hostile_server.py", folder, options)


def everything(folder: Path) -> McpServer:
    """Return `@modelcontextprotocol/server-everything`, not started."""
    port = free_port()
    return McpServer(folder, [*_node("server-everything"), "streamableHttp"], {"PORT": str(port)}, port)


def memory(folder: Path) -> McpServer:
    """Return `@modelcontextprotocol/server-memory` behind HTTP, not started: it speaks standard input and output."""
    command = [str(part) for part in _node("server-memory")]
    environment = {"MEMORY_FILE_PATH": str(folder / "memory.jsonl")}
    return _python("bridge.py", folder, {"command": command}, environment)


def kubernetes(folder: Path, *options: str) -> McpServer:
    """Return `kubernetes-mcp-server`, not started; `options` are those of its command line."""
    found = sorted(packages(_HERE).glob("kubernetes-mcp-server-*/bin/*"))
    if len(found) != 1:
        raise TestbedError(f"kubernetes-mcp-server has no program for this machine: {found}")
    port = free_port()
    listening = ["--bind-address", "127.0.0.1", "--port", str(port), "--log-file", "stderr"]
    return McpServer(folder, [found[0], *listening, *options], {}, port)


def _python(file: str, folder: Path, options: dict[str, Any], environment: dict[str, str] | None = None) -> McpServer:
    port = free_port()
    command: list[str | Path] = [sys.executable, _HERE / file, json.dumps({**options, "port": port})]
    return McpServer(folder, command, environment or {}, port)


def _node(package: str) -> list[str | Path]:
    return [node(), packages(_HERE) / "@modelcontextprotocol" / package / "dist" / "index.js"]
