"""An MCP server on the official SDK, as a program whose tools a test can observe.

    python tools_server.py PORT FOLDER

Each call adds a line to `FOLDER/calls`. A call of `wait` ends when the file `FOLDER/NAME` exists.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from mcp.server import MCPServer
from mcp.types import ImageContent, TextContent

from support.eventually import eventually
from testbed.paths import REPOSITORY
from testbed.ports import free_port

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

server = MCPServer("shop")


@dataclass(frozen=True)
class ToolsServer:
    """A running server."""

    url: str
    folder: Path
    process: subprocess.Popen[bytes]

    def calls(self) -> list[tuple[str, Any]]:
        """Return the calls so far: the name of the tool and its argument."""
        file = self.folder / "calls"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return [(found["tool"], found["argument"]) for found in map(json.loads, lines)]

    def release(self, name: str) -> None:
        """End the calls of `wait` with this name."""
        (self.folder / name).touch()


@contextmanager
def running_tools_server(folder: Path) -> Iterator[ToolsServer]:
    """Run the server until the context ends."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    # -P keeps this file's folder out of sys.path: its `operator` would shadow the module of the standard library.
    command = [sys.executable, "-P", __file__, str(port), str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "tests"), str(REPOSITORY / "dev")])}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    url = f"http://127.0.0.1:{port}/mcp"
    try:
        eventually(lambda: _answers(url), "the MCP server answers")
        yield ToolsServer(url, folder, process)
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code > 0
    except httpx.TransportError:
        return False


def _note(tool: str, argument: object) -> None:
    with (Path(sys.argv[2]) / "calls").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"tool": tool, "argument": argument}) + "\n")


@server.tool()
def price(item: str) -> str:
    """Return the price of an item."""
    _note("price", item)
    return f"{item} costs {len(item)} euros"


@server.tool()
def order(item: str) -> str:
    """Order an item, which fails."""
    _note("order", item)
    raise ValueError(f"{item} is sold out")


@server.tool()
async def wait(name: str) -> str:
    """Wait until a test releases the name."""
    _note("wait", name)
    try:
        while not (Path(sys.argv[2]) / name).exists():  # noqa: ASYNC110  # another process makes the file
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        _note("cancelled", name)
        raise
    return f"{name} was released"


@server.tool()
def picture(item: str) -> list[TextContent | ImageContent]:
    """Return a picture of an item."""
    _note("picture", item)
    image = ImageContent(type="image", data=PIXEL, mime_type="image/png")
    return [TextContent(type="text", text=f"A picture of {item}"), image]


@server.tool()
def catalogue(characters: int) -> str:
    """Return a long text."""
    _note("catalogue", characters)
    return "x" * characters


if __name__ == "__main__":
    server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
