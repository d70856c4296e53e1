"""A running MCP server, and the definition of tools that names it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from support.eventually import eventually
from testbed.ports import free_port

_PROGRAM = Path(__file__).with_name("sums_server.py")


@contextmanager
def running_sums_server() -> Iterator[str]:
    """Run the MCP server of `sums_server.py`, and yield its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    # -P: the folder `operator` beside the program must not replace the module of Python.
    process = subprocess.Popen([sys.executable, "-P", _PROGRAM, str(port)])
    try:
        eventually(lambda: _answers(process, url), "the MCP server answers")
        yield url
    finally:
        process.kill()
        process.wait()


def tools_file_of(folder: Path, url: str) -> Path:
    """Write a definition with the server at `url` as `sums`, and return its path."""
    file = folder / "tools.json"
    file.write_text(json.dumps({"tools": [{"name": "sums", "mcp": {"url": url}}]}), encoding="utf-8")
    return file


def _answers(process: subprocess.Popen[bytes], url: str) -> bool:
    assert process.poll() is None, "the MCP server has ended"
    try:
        return httpx.get(url, timeout=5).status_code > 0
    except httpx.TransportError:
        return False
