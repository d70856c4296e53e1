"""Concurrent jobs end together: at an error, at an interrupt, and with all their child processes."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from testbed import paths, together
from testbed.errors import TestbedError
from testbed.locks import exclusive

DEADLINE_SECONDS = 20
# A child with a child of its own, as `go build` starts compilers: it writes the process ids of both.
FAMILY = 'sleep 300 & echo $$ $! > "$0.partial"; mv "$0.partial" "$0"; wait'


def test_results_come_in_the_order_of_the_jobs() -> None:
    first_may_end = threading.Event()

    def first() -> int:
        assert first_may_end.wait(DEADLINE_SECONDS)
        return 1

    def second() -> int:
        first_may_end.set()
        return 2

    assert together.together(first, second) == [1, 2]


def test_an_error_ends_the_children_of_the_other_jobs_and_is_raised(tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    def fails() -> None:
        _await(pids.exists)
        raise TestbedError("no room")

    def runs() -> None:
        together.run(["sh", "-c", FAMILY, pids], on_line=print)

    with pytest.raises(TestbedError, match="no room"):
        together.together(runs, fails)
    _await(lambda: not _alive(pids))


def test_an_error_of_inner_jobs_ends_the_outer_ones(tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    def fails() -> None:
        _await(pids.exists)
        raise TestbedError("no network")

    def outer() -> None:
        together.together(fails, lambda: None)

    def runs() -> None:
        together.run(["sh", "-c", FAMILY, pids], on_line=print)

    with pytest.raises(TestbedError, match="no network"):
        together.together(outer, runs)
    _await(lambda: not _alive(pids))


def test_an_interrupt_while_jobs_start_ends_those_that_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids = tmp_path / "pids"

    class Interrupted(ThreadPoolExecutor):
        def submit(self, *work: Any, **more: Any) -> Any:
            if (tmp_path / "submitted").exists():
                _await(pids.exists)
                raise KeyboardInterrupt
            (tmp_path / "submitted").touch()
            return super().submit(*work, **more)

    monkeypatch.setattr(together, "ThreadPoolExecutor", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        together.together(lambda: together.run(["sh", "-c", FAMILY, pids], on_line=print), lambda: 0)
    _await(lambda: not _alive(pids))


def test_after_an_error_a_job_starts_no_further_child() -> None:
    failed = threading.Event()
    refused: list[bool] = []

    def fails() -> None:
        failed.set()
        raise TestbedError("no")

    def goes_on() -> None:
        assert failed.wait(DEADLINE_SECONDS)
        _await(_stopped)
        try:
            together.run(["true"], on_line=print)
        except together.StoppedError:
            refused.append(True)
            raise

    with pytest.raises(TestbedError, match="no"):
        together.together(fails, goes_on)
    assert refused == [True]


def test_a_job_that_waits_for_a_lock_ends_at_the_error_of_another_job(tmp_path: Path) -> None:
    lock = tmp_path / "lock"

    def fails() -> None:
        raise TestbedError("stop")

    def waits() -> None:
        with exclusive(lock, "holds the lock"):
            raise AssertionError

    with exclusive(lock, "holds the lock of the test"), pytest.raises(TestbedError, match="stop"):
        together.together(fails, waits)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda each: each.name)
def test_a_terminated_process_leaves_no_child(number: signal.Signals, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    program = f"""
import signal
from testbed.together import run, together
signal.signal(signal.SIGTERM, signal.default_int_handler)
together(lambda: run(["sh", "-c", {FAMILY!r}, {str(pids)!r}], on_line=print), lambda: None)
"""
    environment = os.environ | {"PYTHONPATH": str(paths.REPOSITORY / "dev")}
    process = subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.DEVNULL)
    try:
        _await(pids.exists)
        process.send_signal(number)
        process.wait(DEADLINE_SECONDS)
        children = _alive(pids)
        if number == signal.SIGKILL:  # no process is left that could end its group
            children = [int(pids.read_text().split()[0])]
        _await(lambda: not any(_runs(each) for each in children))
    finally:
        process.kill()
        process.wait()
        for each in _alive(pids):
            os.kill(each, signal.SIGKILL)


def test_the_output_comes_line_by_line_and_the_exit_code_is_returned() -> None:
    lines: list[str] = []
    assert together.run(["sh", "-c", "echo one; echo two >&2; exit 3"], on_line=lines.append) == 3
    assert lines == ["one", "two"]


def _stopped() -> bool:
    try:
        together.check()
    except together.StoppedError:
        return True
    return False


def _alive(pids: Path) -> list[int]:
    running = [int(each) for each in pids.read_text().split()] if pids.exists() else []
    return [each for each in running if _runs(each)]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _await(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
