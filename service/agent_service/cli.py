"""The command `agent-service`."""

import sys

import click

from agent_service import __version__, settings
from agent_service.settings import Settings, SettingsError

_WRONG_SETTINGS = 2
_FAILED = 1


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="agent-service")
def main() -> None:
    """The agent API of Portside: an HTTP service in front of a model.

    Settings come from environment variables, a .env file, and files in the folder SECRETS_DIR. To try it with no key:

        MODEL_PROVIDER=echo agent-service serve
    """


@main.command()
@click.option("--host", help="Address to listen on.  [default: API_HOST, else 0.0.0.0]")
@click.option("--port", type=int, help="Port to listen on, 0 for any.  [default: API_PORT or PORT, else 8000]")
def serve(host: str | None, port: int | None) -> None:
    """Run the API until SIGTERM or Ctrl-C, then finish what is in flight.

    The settings that matter first:

    \b
      ANTHROPIC_API_KEY        key of the model API; or a file of that name in SECRETS_DIR
      MODEL_PROVIDER           anthropic (default), or echo: no key, no network
      DEFAULT_MODEL            model that answers
      SYSTEM_PROMPT            what the agent is told about itself
      MAX_TOKENS               most tokens in one answer
      REQUEST_TIMEOUT_SECONDS  most seconds for one answer (default 60)
      LOG_LEVEL, LOG_FORMAT    INFO by default; json (default) or text

    Exit codes: 0 after a clean end, 1 when the port cannot be had, 2 when a setting is wrong.
    """
    try:
        chosen = settings.load(api_host=host, API_PORT=port)
    except SettingsError as error:
        for fault in error.faults:
            click.echo(fault, err=True)
        sys.exit(_WRONG_SETTINGS)
    sys.exit(_run(chosen))


def _run(chosen: Settings) -> int:
    # The SDK takes 2 s to import: not before the settings are known to be right and the port is ours.
    import structlog  # noqa: PLC0415

    from agent_service import logs  # noqa: PLC0415
    from agent_service.server import PortError, Server, bind  # noqa: PLC0415

    try:
        sock = bind(chosen.api_host, chosen.api_port)
    except PortError as error:
        click.echo(str(error), err=True)
        return _FAILED

    from agent_service.app import create_app  # noqa: PLC0415
    from agent_service.lifecycle import Lifecycle  # noqa: PLC0415

    logs.configure(level="DEBUG" if chosen.debug else chosen.log_level, form=chosen.log_format)
    lifecycle = Lifecycle()
    app = create_app(chosen, lifecycle)
    port = sock.getsockname()[1]
    url = f"http://{_reachable(chosen.api_host)}:{port}"

    def announce() -> None:
        structlog.get_logger(__name__).info(
            "Agent API started",
            url=url,
            docs=None if chosen.is_production else f"{url}/docs",
            provider=chosen.model_provider,
            model=app.state.parts.provider.model,
            version=__version__,
        )

    server = Server(app, lifecycle, request_timeout_seconds=chosen.request_timeout_seconds, on_listening=announce)
    server.run(sockets=[sock])
    return 0 if server.started else _FAILED


def _reachable(host: str) -> str:
    """Give the host as it stands in an address that a person can open."""
    if host in {"0.0.0.0", "::"}:  # noqa: S104
        return "localhost"
    return f"[{host}]" if ":" in host else host
