"""The limit of file descriptors of the process, and the number of connections that it allows."""

import math
import resource
from contextlib import suppress
from dataclasses import dataclass

from agent_service.config.settings import Settings

# Reserved for the process itself: standard streams, the event loop, listeners, Redis, log and key files. It uses about
# 30.
_OWN = 64

# Default maximum of connections, if the settings have none. An idle connection takes about 10 KB.
_CONNECTIONS = 4096

_OPEN_MAX = 10_240

# Connections that are kept free of work, so that a probe can always replace an idle one.
_SPARE = 32

# Connections that the kernel completes before they are accepted. As many may be accepted at once, before the
# connections that they replace are closed.
_BACKLOG = 2048
_BACKLOG_SHARE = 8


# Share of the requests in flight that one client may have. The rest is for other clients, also if all users of a
# gateway count as one client because it is not a trusted proxy.
_CLIENT_SHARE = 0.75


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of one process: open connections, requests in flight, requests in flight of one client, and backlog."""

    connections: int
    in_flight: int
    in_flight_per_client: int
    backlog: int


def raise_limit() -> None:
    """Raise the soft limit of file descriptors to the hard limit. systemd and containerd start programs with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard
    if hard == resource.RLIM_INFINITY:
        # macOS reports this, but refuses more than its OPEN_MAX.
        wanted = max(soft, _OPEN_MAX)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def bounds(settings: Settings) -> Bounds:
    """Return the limits of one of the processes that share the settings of a pod."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = settings.max_connections or max(_CONNECTIONS, 2 * settings.max_in_flight)
    connections = math.ceil(connections / settings.api_workers)
    backlog = _BACKLOG
    if limit != resource.RLIM_INFINITY:
        backlog = min(_BACKLOG, limit // _BACKLOG_SHARE)
        # Half for clients, half for the connection to the model API that each of their requests opens.
        connections = min(connections, (limit - _OWN - backlog) // 2)
    connections = max(connections, 2 * _SPARE)
    in_flight = min(wanted_in_flight(settings), connections - _SPARE)
    if settings.max_in_flight_per_client is None:
        per_client = in_flight * _CLIENT_SHARE
    else:
        per_client = settings.max_in_flight_per_client / settings.api_workers
    return Bounds(connections, in_flight, math.ceil(per_client), backlog)


def wanted_in_flight(settings: Settings) -> int:
    """Return how many requests in flight the settings allow per process, regardless of its limit of open files."""
    return math.ceil(settings.max_in_flight / settings.api_workers)
