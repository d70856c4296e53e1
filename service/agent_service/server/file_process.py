"""The process of `serve --runtime FILE`: the user's Python file beside the API, restarted when it ends."""

import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from agent_service.child_process.keeper import bound_to_this_process
from agent_service.config.settings import Settings

HOST = "127.0.0.1"

Kind = Literal["runtime", "tools"]
"""What is served of the file: its function `answer`, or its tools."""

# Variables with credentials of the SDK that are no settings of ours.
_CREDENTIALS = frozenset({"ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_CUSTOM_HEADERS", "PORT"})

_SETTINGS = frozenset(name.upper() for name in Settings.model_fields)
_OF_AWS = "AWS_"
_COLLECTOR = "OTEL_EXPORTER_OTLP_ENDPOINT"


def environment(environ: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """Return the environment of the file's process: that of this one, without our settings and credentials."""
    kept = {name: value for name, value in environ.items() if not _is_ours(name.upper(), settings)}
    return {
        **kept,
        "LOG_LEVEL": settings.lowest_level,
        "LOG_FORMAT": settings.log_format,
        "PYTHONUNBUFFERED": "1",
    }


def _is_ours(name: str, settings: Settings) -> bool:
    if name == _COLLECTOR:
        return False
    if name.startswith(_OF_AWS):
        # The file may call other services of AWS, with credentials of its own.
        return name in _SETTINGS and settings.model_provider == "bedrock"
    # Headers of the collector contain its key.
    return name in _SETTINGS or name in _CREDENTIALS or (name.startswith("OTEL_") and name.endswith("_HEADERS"))


def free_ports(number: int) -> list[int]:
    """Return free ports of this machine, which differ."""
    with ExitStack() as stack:
        # All at the same time, so that they differ.
        socks = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(number)]
        return [sock.getsockname()[1] for sock in socks]


class FileProgram:
    """The program that runs the user's file."""

    # The API has drained, so that no turn is in progress.
    stop_seconds = 5.0

    def __init__(self, name: str, kind: Kind, file: Path, port: int, environ: Mapping[str, str]) -> None:
        self.name = name
        # -P: a module in the current folder must not replace one of ours.
        command = [sys.executable, "-P", "-m", "agent_service.python_file", kind, str(file.absolute()), str(port)]
        self._command = bound_to_this_process(command)
        self._environ = dict(environ)

    def start(self) -> "subprocess.Popen[bytes]":
        """Start the process. Ctrl-C at the terminal must reach only the API: the file ends after the last turn."""
        return subprocess.Popen(self._command, env=self._environ, stdin=subprocess.DEVNULL, start_new_session=True)

    def follow(self, child: "subprocess.Popen[bytes]") -> int:
        """Wait for the end of the process, and return its exit code."""
        return child.wait()

    def is_restarted(self) -> bool:
        """Return True: the file may be mended meanwhile."""
        return True
