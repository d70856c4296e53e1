"""The folder that holds the state: one service uses it at a time, and no server of an earlier one is left in it."""

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from agent_service.lifecycle import StartError
from agent_service.state.valkey import process

_log = structlog.get_logger(__name__)

# What a server gets to save its data; then it is killed, of which its file knows to recover.
_LEFT_OVER_SECONDS = 10.0


class EmbeddedError(StartError):
    """There is no Valkey of our own."""


@dataclass(frozen=True, slots=True)
class StateFolder:
    """A folder that is ours. `server_lock` is a file descriptor that the server is to keep open while it lives."""

    path: Path
    server_lock: int

    def note_server(self, pid: int, address: Path) -> None:
        """Leave word, for the next service here, of how this server can be ended."""
        word = json.dumps({"pid": pid, "socket": str(address)}).encode()
        os.pwrite(self.server_lock, word, 0)
        os.ftruncate(self.server_lock, len(word))


@contextmanager
def claimed(path: Path) -> Iterator[StateFolder]:
    """Make the folder if need be, and take it. Two locks, because a server can outlive its service for a while.

    Raises:
        EmbeddedError: when it cannot be used, or another service does.
    """
    with contextlib.ExitStack() as stack:
        try:
            path = path.expanduser().absolute()
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            service = _opened(path / "service.lock", stack)
            server = _opened(path / "valkey.lock", stack)
            if not _taken(service):
                raise EmbeddedError(
                    f"Another service keeps its state in {path}; stop it, or set STATE_DIR to another folder."
                )
            if not _taken(server):
                _end_left_over(path, server)
            # Seen here rather than by the server, whose words are harder to understand.
            (path / "valkey.sock").unlink(missing_ok=True)
        except (OSError, RuntimeError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or "there is no home folder"
            raise EmbeddedError(
                f"State cannot be kept in {path}: {why}; set STATE_DIR to a folder that can be written to, "
                "or REDIS_URL to a Redis server."
            ) from None
        yield StateFolder(path, server)


def _opened(path: Path, stack: contextlib.ExitStack) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    stack.callback(os.close, descriptor)
    return descriptor


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end_left_over(path: Path, lock: int) -> None:
    # The service was killed where nothing tells a server so, or the server is just saving its data.
    try:
        note = json.loads(os.pread(lock, 4096, 0))
        pid, address = int(note["pid"]), Path(note["socket"])
    except (ValueError, KeyError, TypeError):
        raise EmbeddedError(
            f"An unknown process uses {path / 'valkey.lock'}; end it, or set STATE_DIR to another folder."
        ) from None
    _log.warning("Valkey of an earlier service was left, ending it", pid=pid)
    process.ask(address, b"SHUTDOWN")
    if _free_within(lock, _LEFT_OVER_SECONDS):
        return
    # It holds the lock, and so is still the process that had this id.
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    if not _free_within(lock, _LEFT_OVER_SECONDS):
        raise EmbeddedError(f"The Valkey of an earlier service, process {pid}, does not end; end it.")


def _free_within(lock: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not _taken(lock):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
