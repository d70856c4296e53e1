"""The folder of the state: one service uses it at a time, and a server of an earlier service is ended first."""

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

# Seconds in which a server may save its data before it is killed; its append-only file survives a kill.
_LEFT_OVER_SECONDS = 10.0


class EmbeddedError(StartError):
    """The embedded Valkey cannot be started."""


@dataclass(frozen=True, slots=True)
class StateFolder:
    """A folder claimed by this service. `server_lock` is a file descriptor that the server keeps open while it runs."""

    path: Path
    server_lock: int

    def note_server(self, pid: int, address: Path) -> None:
        """Record, for the next service that uses this folder, how to end this server."""
        record = json.dumps({"pid": pid, "socket": str(address)}).encode()
        os.pwrite(self.server_lock, record, 0)
        os.ftruncate(self.server_lock, len(record))


@contextmanager
def claimed(path: Path) -> Iterator[StateFolder]:
    """Claim the folder, and create it if necessary. There are two locks, because a server can outlive its service.

    Raises:
        EmbeddedError: if the folder cannot be used, or another service uses it.
    """
    with contextlib.ExitStack() as stack:
        try:
            path = path.expanduser().absolute()
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            service = _opened(path / "service.lock", stack)
            server = _opened(path / "valkey.lock", stack)
            if not _taken(service):
                raise EmbeddedError(
                    f"Another service stores its state in {path}; stop it, or set STATE_DIR to another folder."
                )
            if not _taken(server):
                _end_left_over(path, server)
            # Removed here, so that a failure is not reported by the server, whose message is harder to understand.
            (path / "valkey.sock").unlink(missing_ok=True)
        except (OSError, RuntimeError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or "there is no home folder"
            raise EmbeddedError(
                f"Cannot store state in {path}: {why}; set STATE_DIR to a writable folder, "
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
    # Either the service was killed on a system that does not notify the server, or the server is still saving its data.
    try:
        note = json.loads(os.pread(lock, 4096, 0))
        pid, address = int(note["pid"]), Path(note["socket"])
    except (ValueError, KeyError, TypeError):
        raise EmbeddedError(
            f"An unknown process uses {path / 'valkey.lock'}; stop it, or set STATE_DIR to another folder."
        ) from None
    _log.warning("Valkey of an earlier service was still running, stopping it", pid=pid)
    process.ask(address, b"SHUTDOWN")
    if _free_within(lock, _LEFT_OVER_SECONDS):
        return
    # The process holds the lock, so the PID has not been reused.
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    if not _free_within(lock, _LEFT_OVER_SECONDS):
        raise EmbeddedError(f"The Valkey of an earlier service, process {pid}, did not exit; stop it.")


def _free_within(lock: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not _taken(lock):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
