"""Whatever no test of this tier may do fails with a message on where such a test belongs."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest


def _run() -> None:
    subprocess.run([sys.executable, "-c", ""], check=True)


def _run_by_asyncio() -> None:
    asyncio.run(_create())


async def _create() -> None:
    await asyncio.create_subprocess_exec(sys.executable, "-c", "")


def _run_by_a_shell() -> None:
    os.system("true")  # noqa: S605  # it is refused


@pytest.mark.parametrize("start", [_run, _run_by_asyncio, _run_by_a_shell, os.fork])
def test_no_process_is_started(start: Callable[[], object]) -> None:
    with pytest.raises(Exception, match=r"test_no_process_is_started.* started a process .* move it to tests/service"):
        start()


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("2001:db8::1", 80)])
def test_no_other_machine_is_connected_to(address: tuple[str, int]) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with (
        socket.socket(family, socket.SOCK_STREAM) as sock,
        pytest.raises(Exception, match=r"connected to .*, but tests may use only loopback"),
    ):
        sock.connect(address)


def test_loopback_may_be_connected_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert client.getpeername() == server.getsockname()
