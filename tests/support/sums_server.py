"""An MCP server on the official SDK, as a program: its argument is the port on loopback."""

import sys
import time
from pathlib import Path

from mcp.server import MCPServer

server = MCPServer("sums")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def wait_for(started: str, ended: str) -> str:
    """Create the file `started`, and wait until the file `ended` exists."""
    Path(started).touch()
    while not Path(ended).exists():
        time.sleep(0.05)
    return "It exists."


if __name__ == "__main__":
    server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
