"""The command `agent-service serve`: bind the ports, start the state, then run the API in one or several processes."""

import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

import click
import structlog
from pydantic import SecretStr

from agent_service import __version__
from agent_service.bounds import raise_limit
from agent_service.config.settings import Settings
from agent_service.lifecycle import Lifecycle, StartError
from agent_service.server.listen import bind, bind_gateway
from agent_service.state.valkey import embedded
from agent_service.telemetry import logs, multiprocess_metrics, otel_environment

_log = structlog.get_logger(__name__)

_FAILED = 1


Companion = Callable[[Settings], AbstractContextManager[None]]
"""Runs a process beside the API, which gets the settings of the API."""


def run(settings: Settings, companion: Companion | None = None) -> int:
    """Serve until the end, and return the exit code. If the start fails, print the reason in one line on stderr.

    Args:
        settings: settings of the API.
        companion: the process of a Python file beside the API; its port is among the settings.
    """
    # Python's default at SIGTERM would leave our Valkey to the kernel. Process 1 of a container has no default action.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        with ExitStack() as stack:
            raise_limit()
            listener = stack.enter_context(bind(settings.api_host, settings.api_port, setting="--port or API_PORT"))
            scraped = None
            if settings.metrics_port is not None:
                scraped = stack.enter_context(bind(settings.api_host, settings.metrics_port, setting="METRICS_PORT"))
            gateway = bind_gateway(settings, stack)
            logs.configure(level=settings.lowest_level, form=settings.log_format)
            otel_environment.warn()
            serve = _in_one_process if settings.api_workers == 1 else _in_several
            settings = _with_state(settings, stack)
            if companion is not None:
                stack.enter_context(companion(settings))
            return serve(settings, listener, scraped, gateway)
    except StartError as error:
        click.echo(str(error), err=True)
        return _FAILED


def _build_info(settings: Settings) -> dict[str, str]:
    """Return the version, the provider and the model that are running."""
    return {"version": __version__, "provider": settings.model_provider, "model": settings.model}


def _with_state(settings: Settings, stack: ExitStack) -> Settings:
    """Return settings with a Redis address. Start a Valkey where no Redis is configured; it ends last."""
    if settings.redis_address is not None:
        return settings
    address = stack.enter_context(embedded.running(settings.state_dir))
    # A further signal must not prevent it from saving its data.
    stack.callback(_ignore_signals)
    return settings.model_copy(update={"redis_url": SecretStr(address), "api_runs_tasks": settings.runs_tasks})


def _ignore_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _in_one_process(
    settings: Settings, listener: socket.socket, scraped: socket.socket | None, gateway: socket.socket | None
) -> int:
    # prometheus_client reads the variable in upper and in lower case.
    for name in (multiprocess_metrics.FOLDER, multiprocess_metrics.FOLDER.lower()):
        os.environ.pop(name, None)
    # With the SDK, these imports take 2 s. They come after the ports are bound and the state is started.
    from agent_service.app import create_app  # noqa: PLC0415
    from agent_service.server.uvicorn_server import Server  # noqa: PLC0415
    from agent_service.telemetry.metrics_server import serving  # noqa: PLC0415

    lifecycle = Lifecycle()
    app = create_app(settings, lifecycle, gateway_listener=gateway)
    server = Server(
        app,
        lifecycle,
        settings,
        on_listening=lambda: _announce(settings, listener, scraped),
        opens_websockets=settings.proxies,
    )
    with serving(scraped, app.state.components.metrics.expose):
        server.run(sockets=[listener])
    return 0 if server.started else _FAILED


def _in_several(
    settings: Settings, listener: socket.socket, scraped: socket.socket | None, gateway: socket.socket | None
) -> int:
    from agent_service.server.multiprocess.supervisor import Listeners, metrics_folder, supervise  # noqa: PLC0415
    from agent_service.telemetry.metrics import of_all_processes  # noqa: PLC0415
    from agent_service.telemetry.metrics_server import serving  # noqa: PLC0415

    with metrics_folder() as folder, serving(scraped, of_all_processes(folder, _build_info(settings))):
        listeners = Listeners(listener, gateway)
        return supervise(settings, listeners, folder, on_started=lambda: _announce(settings, listener, scraped))


def _announce(settings: Settings, listener: socket.socket, scraped: socket.socket | None) -> None:
    url = _url(settings, listener)
    extra: dict[str, object] = {}
    if scraped is not None:
        extra["metrics"] = f"{_url(settings, scraped)}/metrics"
    if settings.api_workers > 1:
        extra["processes"] = settings.api_workers
    docs = None if settings.is_production else f"{url}/docs"
    _log.info("Agent API started", url=url, docs=docs, **_build_info(settings), **extra)


def _url(settings: Settings, listener: socket.socket) -> str:
    """Return the address in a form that a user can open."""
    host = settings.api_host
    if host in {"0.0.0.0", "::"}:  # noqa: S104
        host = "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
