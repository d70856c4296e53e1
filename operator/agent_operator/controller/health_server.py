"""The operator's own small HTTP server: /healthz and /readyz for the kubelet, /metrics for Prometheus."""

import resource
from asyncio import Transport
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

# The kubelet and a few Prometheus servers need a handful. Above this limit the oldest connection is aborted, so that
# probes are answered no matter which clients hold the connections.
_MOST_CONNECTIONS = 64

# Longer than the kubelet's probe period and most scrape intervals.
_KEEP_ALIVE_SECONDS = 75.0

# The kernel completes up to this many connections before they are accepted, all at once.
_BACKLOG = 64

_OPEN_MAX = 10_240


class PortTakenError(Exception):
    """The server cannot listen on the port. The message explains what to do."""


@asynccontextmanager
async def serve(
    port: int, fault: Callable[[], str | None], started: Callable[[], bool], metrics: CollectorRegistry
) -> AsyncIterator[None]:
    """Serve on all IPv6 and IPv4 addresses while the body runs. Raises PortTakenError.

    `fault` returns the operator's problem, or None. `started` returns whether the operator is able to work, leader or
    not.
    """

    async def healthz() -> web.Response:
        problem = fault()
        return web.json_response({"healthy": problem is None, "fault": problem}, status=200 if problem is None else 503)

    async def readyz() -> web.Response:
        ready = started()
        return web.json_response({"ready": ready}, status=200 if ready else 503)

    async def scrape() -> web.Response:
        return web.Response(body=generate_latest(metrics), headers={"Content-Type": CONTENT_TYPE_LATEST})

    answers = {"/healthz": healthz, "/readyz": readyz, "/metrics": scrape}

    async def answer(request: web.BaseRequest) -> web.Response:
        if request.path not in answers:
            return web.Response(status=404)
        if request.method not in {"GET", "HEAD"}:
            return web.Response(status=405, headers={"Allow": "GET, HEAD"})
        return await answers[request.path]()

    _raise_descriptor_limit()
    server = _Server(answer, access_log=None, keepalive_timeout=_KEEP_ALIVE_SECONDS)
    runner = web.ServerRunner(server, shutdown_timeout=1)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, port=port, backlog=_BACKLOG).start()
        except OSError as error:
            raise PortTakenError(
                f"Cannot listen on port {port} ({error.strerror}): stop the process that uses it, or choose another "
                "port with --health-port."
            ) from error
        yield
    finally:
        await runner.cleanup()


class _Server(web.Server):
    """A server with a limit on its connections, so that a flood cannot use up the operator's file descriptors."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._open: dict[web.RequestHandler, Transport] = {}

    def connection_made(self, handler: web.RequestHandler, transport: Transport) -> None:
        """Accept a connection, and abort the oldest one if there are too many."""
        if len(self._open) >= _MOST_CONNECTIONS:
            # Removed immediately: the next connection in the same event loop iteration must abort a different one.
            self._open.pop(next(iter(self._open))).abort()
        self._open[handler] = transport
        super().connection_made(handler, transport)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Forget a connection."""
        self._open.pop(handler, None)
        super().connection_lost(handler, exc)


def _raise_descriptor_limit() -> None:
    """Raise the soft limit of file descriptors to the hard limit: systemd and containerd start programs with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard
    if hard == resource.RLIM_INFINITY:
        # macOS reports no hard limit, but refuses more than its OPEN_MAX.
        wanted = max(soft, _OPEN_MAX)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
