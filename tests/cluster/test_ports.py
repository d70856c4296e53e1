"""Ports for programs of the tests: free, and assigned to only one of many processes."""

import socket
import subprocess
import sys
from collections import Counter

from testbed import ports
from testbed.paths import REPOSITORY

TAKES = "from testbed.ports import free_ports; print(*free_ports(50))"


def test_processes_that_ask_at_the_same_time_get_different_ports() -> None:
    asking = [
        subprocess.Popen([sys.executable, "-c", TAKES], cwd=REPOSITORY / "dev", stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    got = Counter(port for each in asking for port in each.communicate(timeout=60)[0].split())
    assert len(got) == 200
    assert set(got.values()) == {1}


def test_a_port_in_use_is_not_assigned() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", ports.free_port()))
        server.listen()
        taken = server.getsockname()[1]
        assert taken not in ports.free_ports(ports.LAST - ports.FIRST - 1000)
