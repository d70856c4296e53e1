"""The programs of a cluster as child processes that cannot outlive the supervisor that started them."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from testbed.errors import TestbedError

# The kernel kills the child when the supervisor dies, for any reason (prctl(2), PR_SET_PDEATHSIG).
DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")
POLL_SECONDS = 0.1
# etcd and the API server end within a second; containerd may wait for its shims.
STOP_SECONDS = 10
LOG_TAIL_LINES = 15


class Process:
    """A running program, named `name`, whose output goes to `<logs>/<name>.log`."""

    def __init__(self, name: str, command: list[str | Path], logs: Path) -> None:
        self.name = name
        self._log = logs / f"{name}.log"
        with self._log.open("ab") as output:
            self._child = subprocess.Popen(
                [*DIE_WITH_PARENT, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches only the supervisor, which stops all in order
            )

    @property
    def pid(self) -> int:
        """The program's process id."""
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether the program is still running."""
        return self._child.poll() is None

    def wait_until(self, ready: Callable[[], bool], what: str, seconds: float) -> None:
        """Poll `ready` until it is true. Raises TestbedError, with the log's end, if the program ends or time is up."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.alive:
                raise TestbedError(f"{self.name} ended with code {self._child.returncode}.\n{self.log_tail()}")
            if time.monotonic() > deadline:
                message = f"{self.name} was not ready within {seconds:.0f} s (waited for {what})."
                raise TestbedError(f"{message}\n{self.log_tail()}")
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Stop the program: send SIGTERM, and SIGKILL if it has not ended after STOP_SECONDS."""
        if not self.alive:
            return
        self._child.terminate()
        try:
            self._child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def log_tail(self) -> str:
        """Return the last lines of the program's log, and its path."""
        lines = self._log.read_text(errors="replace").splitlines()
        return "\n".join([f"The end of {self._log}:", *lines[-LOG_TAIL_LINES:]])


def running_for(folder: Path) -> dict[int, str]:
    """Return the processes of the cluster whose state is in `folder`: their command lines by process id.

    Such a process has the folder, or a file in it, as a word of its command line.
    """
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text()
        except OSError:
            continue  # it ended meanwhile
        if any(word == str(folder) or f"{folder}/" in word for word in command.split("\0")):
            found[int(process.name)] = command
    return found
