"""A real Redis for the tests, in its own process."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed import paths, system
from testbed.errors import TestbedError
from testbed.ports import free_port

_START_SECONDS = 60.0


class RedisServer:
    """A Redis server on its own loopback port that can be stopped, frozen and started again."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        # Not one that the kernel picks for connections too: while the server is stopped, a client could get it.
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the server with its saved data, and wait until it answers."""
        command = [str(_program()), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        command += ["--save", "", "--appendonly", "yes", "--daemonize", "no", *self._options]
        with (self._folder / f"redis-{self.port}.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise TestbedError(f"redis-server did not start; its log is in {log.name}.")
            time.sleep(0.02)

    def stop(self) -> None:
        """Shut the server down cleanly."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the process like a crash."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Suspend the process: it keeps its connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume the process."""
        self._signal(signal.SIGCONT)

    def command(self, *words: str) -> bytes:
        """Send one command on a new connection and return the raw reply (RESP)."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as sock:
            parts = [f"*{len(words)}", *(part for word in words for part in (f"${len(word.encode())}", word))]
            sock.sendall(("\r\n".join(parts) + "\r\n").encode())
            reply = b""
            while _end_of(reply) is None and (got := sock.recv(65536)):
                reply += got
            return reply

    def _answers(self) -> bool:
        try:
            return self.command("PING").startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, number)

    def _end(self, number: int) -> None:
        self._signal(number)
        self._signal(signal.SIGCONT)
        if self._process is not None:
            self._process.wait(_START_SECONDS)


def _end_of(reply: bytes, start: int = 0) -> int | None:
    """Return where the value that begins at `start` ends (RESP); None while it is incomplete."""
    line_end = reply.find(b"\r\n", start)
    if line_end < 0:
        return None
    kind, count, end = reply[start : start + 1], reply[start + 1 : line_end], line_end + 2
    if kind == b"$" and int(count) >= 0:
        end += int(count) + 2
        return end if end <= len(reply) else None
    if kind == b"*":
        for _ in range(int(count)):
            found = _end_of(reply, end)
            if found is None:
                return None
            end = found
    return end


@contextmanager
def running_redis(folder: Path, *options: str) -> Iterator[RedisServer]:
    """Start a Redis that keeps its data in `folder`; `options` are command-line arguments."""
    server = RedisServer(folder, *options)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def _program() -> Path:
    """Return redis-server. Debian's package of that name would start a service; the one in redis-tools does not."""
    found = shutil.which("redis-server")
    if found is not None:
        return Path(found)
    system.need("redis-check-rdb")
    twin = shutil.which("redis-check-rdb")
    if twin is None:
        raise TestbedError("redis-check-rdb is missing after its package was installed.")
    # The program is one file that checks the name it was called by.
    link = paths.cache() / "debian" / "redis-server"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(twin)
    return link
