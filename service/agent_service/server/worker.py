"""What `agent-service worker` does: a worker with the health endpoints and metrics that Kubernetes asks for."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import click
import structlog
from fastapi import FastAPI
from starlette.responses import JSONResponse

from agent_service import __version__
from agent_service.assembly import make_parts
from agent_service.config.settings import Settings
from agent_service.health.checks import running
from agent_service.lifecycle import Lifecycle, StartError
from agent_service.middleware.request_id import RequestId
from agent_service.middleware.unhandled import Unhandled
from agent_service.routes import health, metrics
from agent_service.routes.parts import Parts
from agent_service.server.descriptors import raise_limit
from agent_service.server.listen import bind
from agent_service.server.uvicorn_server import Server
from agent_service.telemetry import logs, otel_environment
from agent_service.telemetry.metrics_server import serving

_log = structlog.get_logger(__name__)

_FAILED = 1


def create_worker_app(settings: Settings, lifecycle: Lifecycle) -> FastAPI:
    """Make the app of a worker, which works for as long as the app runs."""
    app = FastAPI(
        title="Portside worker",
        version=__version__,
        docs_url=None,
        openapi_url=None,
        lifespan=_lifespan,
        redirect_slashes=False,
    )
    parts = make_parts(settings, lifecycle)
    # The API's pods tell of budget and queue: from the workers, whose Service is another, alerts would come twice.
    checks = {name: check for name, check in parts.checks.items() if name not in {"budget", "queue"}}
    app.state.parts = parts = replace(parts, checks=checks)

    @app.head("/health/live")
    @app.get("/health/live")
    async def live() -> JSONResponse:
        """Say whether the worker still looks for tasks."""
        return JSONResponse({"alive": not parts.worker.stuck}, status_code=503 if parts.worker.stuck else 200)

    app.include_router(health.router)
    if settings.shows_metrics:
        app.include_router(metrics.router)
    app.add_middleware(Unhandled)
    app.add_middleware(RequestId)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    parts: Parts = app.state.parts
    async with parts.open(), running(parts.checks), parts.worker.running():
        parts.lifecycle.started = True
        yield


def run(settings: Settings) -> int:
    """Work until the end; give the exit code. What prevents the start is one line on standard error."""
    logs.configure(level=settings.lowest_level, form=settings.log_format)
    otel_environment.warn()
    lifecycle = Lifecycle()
    try:
        with contextlib.ExitStack() as stack:
            raise_limit()
            listener = stack.enter_context(bind(settings.api_host, settings.api_port, setting="--port or API_PORT"))
            app = create_worker_app(settings, lifecycle)
            if settings.metrics_port is not None:
                scraped = stack.enter_context(bind(settings.api_host, settings.metrics_port, setting="METRICS_PORT"))
                stack.enter_context(serving(scraped, app.state.parts.metrics.expose))
            server = Server(
                app,
                lifecycle,
                settings,
                on_listening=lambda: _announce(settings, listener.getsockname()[1]),
            )
            server.run(sockets=[listener])
    except StartError as error:
        click.echo(str(error), err=True)
        return _FAILED
    return 0 if server.started else _FAILED


def _announce(settings: Settings, port: int) -> None:
    _log.info("Worker started", concurrency=settings.worker_concurrency, health_port=port, version=__version__)
