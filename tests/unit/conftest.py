"""The unit tier is pure: its tests start no process and connect to no other machine, and all of them take seconds.

A test that needs Redis, a browser or the agent API as a process belongs in tests/service, and one that needs another
program in tests/programs.
"""

import ipaddress
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from support.agent import SETTING_NAMES

_TIER = Path(__file__).parent
_PROCESS_EVENTS = {"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen"}


class ImpureTestError(Exception):
    """A test in tests/unit did what only a test of another tier may do."""


class _Guard:
    """An audit hook (PEP 578), which also sees what asyncio and libraries do. It cannot be removed, only disabled."""

    def __init__(self) -> None:
        self.test: str | None = None
        """The id of the test that runs; None outside this tier."""

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.test is None:
            return
        if event in _PROCESS_EVENTS:
            raise ImpureTestError(
                f"{self.test} started a process ({event}), but tests/unit is pure: move it to tests/service or "
                "tests/programs."
            )
        if event == "socket.connect" and not _is_local(arguments[1]):
            raise ImpureTestError(f"{self.test} connected to {arguments[1]!r}, but tests may use only loopback.")


def _is_local(address: object) -> bool:
    """Return whether a socket's address is loopback, or not an IP address at all (a Unix socket's)."""
    if not isinstance(address, tuple):
        return True
    try:
        return ipaddress.ip_address(str(address[0])).is_loopback
    except ValueError:
        return address[0] in {"localhost", ""}


_GUARD = _Guard()
sys.addaudithook(_GUARD)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Guard the test and its fixtures. pytest calls this hook for the tests of all folders."""
    _GUARD.test = item.nodeid if item.path.is_relative_to(_TIER) else None
    try:
        return (yield)
    finally:
        _GUARD.test = None


@pytest.fixture(autouse=True)
def _settings_of_the_test_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Isolate the tests from the developer's environment and `.env` file."""
    for name in SETTING_NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
