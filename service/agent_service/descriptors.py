"""How many file descriptors the process may have, and how many connections that allows."""

import math
import resource
from contextlib import suppress
from dataclasses import dataclass

from agent_service.settings import Settings

# The process's own: standard streams, the event loop, listeners, Redis, log and key files. It has about 30.
_OWN = 64

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
    if soft == hard:
        return
    # macOS refuses what is above its own bound, which it does not report here.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def bounds(settings: Settings) -> Bounds:
    """Return the bounds of one of the processes that share the settings of a pod."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = math.ceil(settings.max_connections / settings.api_workers)
    in_flight = math.ceil(settings.max_in_flight / settings.api_workers)
    per_client = settings.max_in_flight_per_client or math.ceil(settings.max_in_flight * _CLIENT_SHARE)
    backlog = _BACKLOG
    if limit != resource.RLIM_INFINITY:
        backlog = min(_BACKLOG, limit // _BACKLOG_SHARE)
        # Half for clients, half for what their requests open: a connection to the model API each.
        connections = min(connections, (limit - _OWN - backlog) // 2)
    connections = max(connections, 2 * _SPARE)
    in_flight = min(in_flight, connections - _SPARE)
    return Bounds(connections, in_flight, math.ceil(per_client / settings.api_workers), backlog)
