"""Jobs that run in parallel and end together: the first error, or Ctrl-C, ends the child processes of all."""

import contextlib
import contextvars
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

from testbed.errors import TestbedError

T = TypeVar("T")
POLL_SECONDS = 0.2
# buildah and apt clean up when they are asked to stop; a compiler has nothing to clean up.
END_SECONDS = 5


class StoppedError(TestbedError):
    """Another job of the same group failed, or the user interrupted it: this job ended early."""


class _Group:
    """The child processes of jobs that end together."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self._children: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()

    def start(self, command: list[str | Path], **how: object) -> subprocess.Popen[str]:
        with self._lock:  # so that no child is started after the stop
            if self.stopped.is_set():
                raise StoppedError("Stopped before it started.")
            child: subprocess.Popen[str] = subprocess.Popen(command, start_new_session=True, **how)  # type: ignore[call-overload]
            self._children.add(child)
            return child

    def forget(self, child: subprocess.Popen[str]) -> None:
        with self._lock:
            self._children.discard(child)

    def stop(self) -> None:
        with self._lock:
            self.stopped.set()
            for child in self._children:
                _signal(child, signal.SIGTERM)


_current: contextvars.ContextVar[_Group | None] = contextvars.ContextVar("group", default=None)


def together(*jobs: Callable[[], T]) -> list[T]:
    """Run `jobs` in threads and return their results in order.

    At the first error, every child process that the other jobs started with `run` is stopped. The error is raised when
    all jobs have ended. Within a job, `together` adds its jobs to the same group.
    """
    outer = _current.get()
    group = outer or _Group()
    token = _current.set(group)
    try:
        with ThreadPoolExecutor(max(1, len(jobs))) as pool:
            try:
                futures = [pool.submit(contextvars.copy_context().run, job) for job in jobs]
                _await(futures, group)
            except BaseException:
                group.stop()
                raise
    finally:
        _current.reset(token)
    return [future.result() for future in futures]


def _await(futures: Iterable[Future[T]], group: _Group) -> None:
    """Wait for all of `futures`; stop the group at the first error, and raise the error that was the first cause."""
    pending, errors = set(futures), list[BaseException]()
    while pending:
        done, pending = wait(pending, return_when=FIRST_COMPLETED)
        errors += [error for each in done if (error := each.exception()) is not None]
        if errors:
            group.stop()
    if errors:
        raise next((each for each in errors if not isinstance(each, StoppedError)), errors[0])


def check() -> None:
    """Raise StoppedError when the job that calls this has to end early. For loops that wait."""
    group = _current.get()
    if group is not None and group.stopped.is_set():
        raise StoppedError("Stopped.")


def run(
    command: list[str | Path],
    *,
    on_line: Callable[[str], None],
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> int:
    """Run `command`, pass each line of its output to `on_line`, and return its exit code.

    Its processes form a process group of their own, which ends with this process, for any reason.
    Raises StoppedError when the jobs of the group end early.
    """
    group = _current.get() or _Group()
    child = group.start(
        [*_dies_with_us(), *command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    killer = threading.Thread(target=_kill_late, args=(child, group.stopped), daemon=True)
    killer.start()
    assert child.stdout is not None
    try:
        for line in child.stdout:
            on_line(line.rstrip("\n"))
        child.wait()
    finally:
        if child.poll() is None:
            _signal(child, signal.SIGKILL)
            child.wait()
        group.forget(child)
    if group.stopped.is_set():
        raise StoppedError(f"{command[0]} was stopped.")
    return child.returncode


def _dies_with_us() -> list[str | Path]:
    """Return a prefix that makes the kernel kill a child when we die (prctl(2), PR_SET_PDEATHSIG), on Linux."""
    return ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []


def _kill_late(child: subprocess.Popen[str], stopped: threading.Event) -> None:
    """Kill the child's process group if it has not ended END_SECONDS after the stop."""
    while child.poll() is None:
        if stopped.wait(POLL_SECONDS):
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(END_SECONDS)
            _signal(child, signal.SIGKILL)
            return


def _signal(child: subprocess.Popen[str], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, number)
