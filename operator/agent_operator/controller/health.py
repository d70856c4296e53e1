"""The operator's own small HTTP server: /healthz and /readyz for the kubelet, /metrics for Prometheus."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest


class PortTakenError(Exception):
    """The port cannot be listened on. The message says what to do."""


@asynccontextmanager
async def serve(
    port: int, fault: Callable[[], str | None], started: Callable[[], bool], metrics: CollectorRegistry
) -> AsyncIterator[None]:
    """Serve on all addresses while the body runs. Raises PortTakenError.

    `fault` says what is wrong with the operator, if anything; `started` whether it could work, leader or not.
    """

    async def healthz(_: web.Request) -> web.Response:
        wrong = fault()
        return web.json_response({"healthy": wrong is None, "fault": wrong}, status=200 if wrong is None else 503)

    async def readyz(_: web.Request) -> web.Response:
        ready = started()
        return web.json_response({"ready": ready}, status=200 if ready else 503)

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", scrape)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, port=port).start()
        except OSError as error:
            raise PortTakenError(
                f"Cannot listen on port {port} ({error.strerror}): end what uses it, or choose another with "
                "--health-port."
            ) from error
        yield
    finally:
        await runner.cleanup()
