"""The app of a worker: the health endpoints and metrics for Kubernetes."""

import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import replace

from fastapi import FastAPI
from starlette.responses import JSONResponse

from agent_service import __version__
from agent_service.components import Components, make_components
from agent_service.config.settings import Settings
from agent_service.health.checks import running
from agent_service.lifecycle import Lifecycle
from agent_service.middleware.request_id import RequestId
from agent_service.middleware.unhandled import Unhandled
from agent_service.routes import health, metrics


def create_worker_app(
    settings: Settings, lifecycle: Lifecycle, *, gateway_listener: socket.socket | None = None
) -> FastAPI:
    """Return the app of a worker. The worker runs as long as the app.

    The gateway listens on `gateway_listener`, or binds its port itself.
    """
    app = FastAPI(
        title="Portside worker",
        version=__version__,
        docs_url=None,
        openapi_url=None,
        lifespan=_lifespan,
        redirect_slashes=False,
    )
    components = make_components(settings, lifecycle, counts_waiting=False)
    # The API's pods report budget and queue. Workers have a different Service, so alerts would be sent twice. Nor do
    # they identify callers.
    checks = {name: check for name, check in components.checks.items() if name not in {"budget", "queue", "issuers"}}
    app.state.gateway_listener = gateway_listener
    app.state.components = components = replace(components, checks=checks)

    @app.head("/health/live")
    @app.get("/health/live")
    async def live() -> JSONResponse:
        """Report whether the worker still looks for tasks."""
        return JSONResponse({"alive": not components.worker.stuck}, status_code=503 if components.worker.stuck else 200)

    app.include_router(health.router)
    if settings.shows_metrics:
        app.include_router(metrics.router)
    app.add_middleware(Unhandled)
    app.add_middleware(RequestId)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    components: Components = app.state.components
    async with (
        components.open(app.state.gateway_listener),
        running(components.checks),
        components.worker.running(),
    ):
        components.lifecycle.started = True
        yield
