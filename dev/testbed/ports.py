"""TCP ports of the loopback address, for programs that take their port as an argument."""

import fcntl
import os
import socket
from collections.abc import Iterator
from itertools import islice

from testbed import paths

# Below the ports that the kernel picks for connections and for listeners on port 0 (ip(7), ip_local_port_range).
FIRST, LAST = 20_000, 29_999


def free_port() -> int:
    """Return a port on which nothing listens. See `free_ports`."""
    [port] = free_ports(1)
    return port


def free_ports(count: int) -> list[int]:
    """Return `count` ports on which nothing listens.

    All processes that share the cache take turns, so none gets a port that another has received but not used yet.
    """
    paths.cache().mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(paths.cache() / "ports", os.O_RDWR | os.O_CREAT), "r+") as last:
        fcntl.flock(last, fcntl.LOCK_EX)
        found = list(islice(filter(_is_free, _after(int(last.read() or LAST))), count))
        last.seek(0)
        last.write(f"{found[-1]}\n")
    return found


def _after(last: int) -> Iterator[int]:
    """Yield each port of the range once, starting after `last`."""
    size = LAST - FIRST + 1
    return (FIRST + (last + 1 - FIRST + number) % size for number in range(size))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
