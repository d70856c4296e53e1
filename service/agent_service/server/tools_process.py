"""A Python file with tools for the built-in agent, beside the API of `serve --runtime FILE`."""

import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from agent_service.child_process.keeper import Keeper
from agent_service.config.loading import SettingsError
from agent_service.config.settings import Settings
from agent_service.config.sources import given
from agent_service.config.tools import ToolsFileError, read_tools
from agent_service.server.file_process import FileProgram, environment, free_ports

_LONGEST_NAME = 32


@contextmanager
def tools_file(file: Path, port: int) -> Iterator[Path]:
    """Write a TOOLS_FILE with the entries of the configured one and one for `file`; remove it at the end.

    Args:
        file: the Python file.
        port: port of 127.0.0.1 on which its tools will be served.

    Raises:
        SettingsError: if the configured TOOLS_FILE has faults.
    """
    entries = _configured()
    names = {entry["name"] for entry in entries}
    entry = {"name": _name(file, names), "code": {"port": port}}
    with tempfile.TemporaryDirectory(prefix="portside-") as folder:
        written = Path(folder, "tools.json")
        written.write_text(json.dumps({"tools": [*entries, entry]}), encoding="utf-8")
        yield written


def free_port() -> int:
    """Return a port for the tools."""
    return free_ports(1)[0]


@contextmanager
def running(file: Path, port: int, settings: Settings) -> Iterator[None]:
    """Serve the tools of the file while the context lasts."""
    keeper = Keeper(FileProgram("Tools", "tools", file, port, environment(os.environ, settings)))
    keeper.start()
    try:
        yield
    finally:
        keeper.end()


def _configured() -> list[dict[str, Any]]:
    name = given("TOOLS_FILE")
    if name is None:
        return []
    try:
        read_tools(Path(name))
        content = yaml.safe_load(Path(name).read_text(encoding="utf-8"))
    except ToolsFileError as error:
        raise SettingsError([f"TOOLS_FILE: {line}" for line in str(error).splitlines()]) from None
    entries: list[dict[str, Any]] = content.get("tools") or [] if isinstance(content, dict) else content or []
    return entries


def _name(file: Path, taken: set[str]) -> str:
    """Return a name for the entry, from the file's own: `my-tools` for my_tools.py."""
    name = re.sub(r"[^a-z0-9]+", "-", file.stem.lower())[:_LONGEST_NAME].strip("-") or "local"
    numbered = (f"{name[: _LONGEST_NAME - 3]}-{number}" for number in range(2, len(taken) + 3))
    return name if name not in taken else next(other for other in numbered if other not in taken)
