"""Connections to a service over raw sockets, and what they cost it."""

import re
import socket
from pathlib import Path

from support.agent import Service

_ESTABLISHED = "01"


def connect(service: Service, *, reads: bool = True) -> socket.socket:
    """Connect; a client that does not read has the smallest possible window and segments."""
    sock = socket.socket()
    sock.settimeout(30)
    if not reads:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    sock.connect(("127.0.0.1", int(service.url.rsplit(":", 1)[1])))
    return sock


def is_open(sock: socket.socket) -> bool:
    """Return whether the other side, on this machine, has not closed a connection; there may be bytes left to read."""
    other, own = (f":{address[1]:04X}" for address in (sock.getpeername(), sock.getsockname()))
    # proc(5), /proc/net/tcp: the addresses of both sides, and the state.
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        _, local, remote, state, *_ = line.split()
        if local.endswith(other) and remote.endswith(own):
            return state == _ESTABLISHED
    return False


def peak_mebibytes(service: Service) -> float:
    """Return the most memory that the process has had since its start, or since `forget_peak`."""
    return _memory(service, "VmHWM")


def forget_peak(service: Service) -> float:
    """Begin a new peak with the memory that the process has now, and return that in mebibytes."""
    # proc(5), /proc/pid/clear_refs.
    Path(f"/proc/{service.process.pid}/clear_refs").write_text("5", encoding="ascii")
    return _memory(service, "VmRSS")


def _memory(service: Service, name: str) -> float:
    status = Path(f"/proc/{service.process.pid}/status").read_text(encoding="ascii")
    found = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024
