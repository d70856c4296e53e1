"""Progress of a long run: each failure as it happens, and every few minutes the tests that take long.

xdist's dots name no test before the end of a run, so a run that is cut short would not say what failed or hung in it.
"""

import threading
import time

import pytest

# Seconds between two lines, and after which a test is named in them.
INTERVAL = 300.0


class Progress:
    """The lines of one run, written by the process that collects the reports of all workers."""

    def __init__(self) -> None:
        self._terminal: pytest.TerminalReporter
        self._started = time.monotonic()
        self._running: dict[str, float] = {}  # by test, when it started
        self._finished = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._write_every_interval, daemon=True)

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        terminal = session.config.pluginmanager.get_plugin("terminalreporter")
        assert isinstance(terminal, pytest.TerminalReporter)
        self._terminal = terminal
        self._thread.start()

    def pytest_sessionfinish(self) -> None:
        self._end.set()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._running[nodeid] = time.monotonic()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._running.pop(nodeid, None)
        self._finished += 1

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            message = crash.message if crash else str(report.longrepr)
            self._write(f"{report.when} of {report.nodeid} failed after {report.duration:.0f} s: {message[:600]}")

    def _write_every_interval(self) -> None:
        while not self._end.wait(INTERVAL):
            now = time.monotonic()
            times = {test: now - started for test, started in list(self._running.items())}
            long = [f"{test} ({seconds:.0f} s)" for test, seconds in times.items() if seconds > INTERVAL]
            self._write(f"{self._finished} tests done." + (f" Still running: {', '.join(long)}" if long else ""))

    def _write(self, text: str) -> None:
        self._terminal.write(f"\n[{(time.monotonic() - self._started) / 60:.0f} min] {text}\n")
