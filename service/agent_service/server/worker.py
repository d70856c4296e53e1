"""The command `agent-service worker`: bind the ports, then run the app."""

import contextlib

import click
import structlog

from agent_service import __version__
from agent_service.bounds import raise_limit
from agent_service.config.settings import Settings
from agent_service.lifecycle import Lifecycle, StartError
from agent_service.server.listen import bind, bind_gateway
from agent_service.server.uvicorn_server import Server
from agent_service.telemetry import logs, otel_environment
from agent_service.telemetry.metrics_server import serving
from agent_service.worker_app import create_worker_app

_log = structlog.get_logger(__name__)

_FAILED = 1


def run(settings: Settings) -> int:
    """Work until the end, and return the exit code. If the start fails, print the reason in one line on stderr."""
    logs.configure(level=settings.lowest_level, form=settings.log_format)
    otel_environment.warn()
    lifecycle = Lifecycle()
    try:
        with contextlib.ExitStack() as stack:
            raise_limit()
            listener = stack.enter_context(bind(settings.api_host, settings.api_port, setting="--port or API_PORT"))
            gateway = bind_gateway(settings, stack)
            app = create_worker_app(settings, lifecycle, gateway_listener=gateway)
            if settings.metrics_port is not None:
                scraped = stack.enter_context(bind(settings.api_host, settings.metrics_port, setting="METRICS_PORT"))
                stack.enter_context(serving(scraped, app.state.components.metrics.expose))
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
