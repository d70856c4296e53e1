"""How many file descriptors the process may have, and how many connections that allows."""

import math
import resource
from contextlib import suppress
from dataclasses import dataclass

from agent_service.config.settings import Settings

# The process's own: standard streams, the event loop, listeners, Redis, log and key files. It has about 30.
_OWN = 64

# Most connections, when the settings do not say it. An idle one takes some 10 KB.
_CONNECTIONS = 4096

_OPEN_MAX = 10_240

# Connections that are kept free of work, so that a probe always finds an idle one to take the place of.
_SPARE = 32

# How many connections the kernel completes before they are accepted. As many may be accepted at one go, before those
# that make room for them are closed.
_BACKLOG = 2048
_BACKLOG_SHARE = 8


# Of the requests in flight, what one client may have: the rest is for the others, also if all users of a gateway count
# as one client, because it is not among the trusted proxies.
_CLIENT_SHARE = 0.75


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of one process: its open connections, its requests in flight and those of one client, its backlog."""

    connections: int
    in_flight: int
    in_flight_per_client: int
    backlog: int


def raise_limit() -> None:
    """Raise the soft limit of file descriptors to the hard one: systemd and containerd start programs with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard
    if hard == resource.RLIM_INFINITY:
        # What macOS reports; it refuses more than its OPEN_MAX.
        wanted = max(soft, _OPEN_MAX)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def bounds(settings: Settings) -> Bounds:
    """Return the bounds of one of the processes that share the settings of a pod."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = settings.max_connections or max(_CONNECTIONS, 2 * settings.max_in_flight)
    connections = math.ceil(connections / settings.api_workers)
    backlog = _BACKLOG
    if limit != resource.RLIM_INFINITY:
        backlog = min(_BACKLOG, limit // _BACKLOG_SHARE)
        # Half for clients, half for what their requests open: a connection to the model API each.
        connections = min(connections, (limit - _OWN - backlog) // 2)
    connections = max(connections, 2 * _SPARE)
    in_flight = min(wanted_in_flight(settings), connections - _SPARE)
    if settings.max_in_flight_per_client is None:
        per_client = in_flight * _CLIENT_SHARE
    else:
        per_client = settings.max_in_flight_per_client / settings.api_workers
    return Bounds(connections, in_flight, math.ceil(per_client), backlog)


def wanted_in_flight(settings: Settings) -> int:
    """Return how many requests in flight the settings allow one of the processes, whatever its limit of open files."""
    return math.ceil(settings.max_in_flight / settings.api_workers)
