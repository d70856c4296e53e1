"""The command `agent-service`."""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from agent_service import __version__
from agent_service.config.loading import SettingsError, load
from agent_service.config.settings import Settings
from agent_service.telemetry import otel_environment
from agent_service.telemetry.redact import harmless

if TYPE_CHECKING:
    from agent_service.server.serve import Companion

_INVALID_SETTINGS = 2
_HIGHEST_PORT = 65535


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="agent-service")
def main() -> None:
    """The agent API of Portside: an HTTP service in front of a model.

    Settings come from environment variables, a .env file, and files in the folder SECRETS_DIR. To try it without a key:

        MODEL_PROVIDER=echo agent-service serve
    """


@main.command()
@click.option("--host", help="Address to listen on.  [default: API_HOST, else all]")
@click.option("--port", type=int, help="Port to listen on, 0 for any.  [default: API_PORT or PORT, else 8000]")
@click.option(
    "--runtime",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Python file that answers, or has tools for the built-in agent, in a process beside the API; see "
    "`agent-service runtime` and `agent-service tools`.",
)
def serve(host: str | None, port: int | None, file: Path | None) -> None:
    """Run the API until SIGTERM or Ctrl-C, then finish the requests in flight.

    With --runtime, a change of the file applies to the next message, and the model API's key stays out of its process.

    The most important settings:

    \b
      ANTHROPIC_API_KEY        key of the model API; or a file of that name in SECRETS_DIR
      MODEL_PROVIDER           anthropic (default), bedrock, vertex, foundry; or echo: no key, no network
      DEFAULT_MODEL            model that answers
      RUNTIME_URL              your own agent, such as http://127.0.0.1:8080, instead of the built-in one
      RUNTIME_PROTOCOL         how it is called: invocations (default), a2a, openai or http
      SYSTEM_PROMPT            instructions of the agent
      MAX_TOKENS               maximum number of tokens in one answer
      REQUEST_TIMEOUT_SECONDS  maximum seconds for one answer (default 60)
      REDIS_URL                Redis server for the state; if unset, a Valkey is started, with its data in STATE_DIR
      API_WORKERS              number of processes that serve requests (default 1)
      METRICS_PORT             separate port for /metrics; in production the only one
      LOG_LEVEL, LOG_FORMAT    INFO by default; json (default) or text

    A second SIGTERM or Ctrl-C aborts the requests that are still in flight.

    Exit codes: 0 after a clean shutdown, 1 if it could not start, for example because the port is in use, 2 if a
    setting is invalid.
    """
    if file is None:
        _serve(_load(host, port))
    from agent_service.python_file.local_tools.source import offers_tools  # noqa: PLC0415

    if offers_tools(file):
        _serve_with_tools(file, host, port)
    from agent_service.server.runtime_process import overrides, running  # noqa: PLC0415

    _serve(_load(host, port, **overrides()), partial(running, file))


def _serve(settings: Settings, companion: "Companion | None" = None) -> NoReturn:
    # Not at the top of the file: its imports take longer than to find an invalid setting.
    from agent_service.server.serve import run  # noqa: PLC0415

    sys.exit(run(settings, companion))


def _serve_with_tools(file: Path, host: str | None, port: int | None) -> NoReturn:
    from agent_service.server.tools_process import free_port, running, tools_file  # noqa: PLC0415

    number = free_port()
    try:
        with tools_file(file, number) as written:
            _serve(_load(host, port, tools_file=written), partial(running, file, number))
    except SettingsError as error:
        _refuse(*error.faults)


def _file_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the argument and options of a command that serves a Python file."""
    for decorate in reversed(
        (
            click.argument("file", type=click.Path(path_type=Path)),
            click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; :: for all."),
            click.option(
                "--port",
                type=click.IntRange(0, 65535),
                help="Port to listen on, 0 for any.  [default: PORT, else 8080]",
            ),
            click.option(
                "--reload/--no-reload",
                default=True,
                help="Whether a changed file is used without a restart.  [default: reload]",
            ),
            click.option(
                "--loopback-only",
                is_flag=True,
                help="Refuse other machines. GET /ping is still answered to all, for probes.",
            ),
        )
    ):
        command = decorate(command)
    return command


@main.command()
@_file_options
def runtime(file: Path, host: str, port: int | None, *, reload: bool, loopback_only: bool) -> None:
    """Serve a Python file as an agent, until SIGTERM or Ctrl-C, then finish the turns in progress.

    The file defines one function, which returns the text of the answer, or yields it piece by piece:

    \b
      async def answer(turn):
          return f"You said: {turn.message}"

    It is served in the protocol `invocations`: POST /invocations and GET /ping. This is the agent's own part alone;
    `agent-service serve --runtime FILE` runs the API in front of it as well.

    \b
      ANTHROPIC_BASE_URL       address of the gateway, for turn.anthropic
      PORTSIDE_MODEL           turn.model
      PORTSIDE_MAX_TOKENS      turn.max_tokens
      LOG_LEVEL, LOG_FORMAT    INFO by default; json (default) or text

    Exit codes: 0 after a clean shutdown, 1 if the file has an error, with its line, or if the port cannot be used.
    """
    from agent_service.python_file.run import run  # noqa: PLC0415

    sys.exit(run(file, host, _port(port), reload=reload, loopback_only=loopback_only))


@main.command()
@_file_options
def tools(file: Path, host: str, port: int | None, *, reload: bool, loopback_only: bool) -> None:
    """Serve the tools of a Python file as an MCP server, until SIGTERM or Ctrl-C, then finish the calls in progress.

    The tools are its functions with the decorator `@tool`:

    \b
      from portside import tool

    \b
      @tool
      def add(a: int, b: int) -> int:
          \"\"\"Add two numbers.\"\"\"
          return a + b

    They are served over streamable HTTP at /mcp, with GET /ping for probes. `agent-service serve --runtime FILE` runs
    an agent that uses them as well. LOG_LEVEL and LOG_FORMAT are as for `agent-service runtime`.

    Exit codes: 0 after a clean shutdown, 1 if the file has an error, with its line, or if the port cannot be used.
    """
    from agent_service.python_file.local_tools.run import run  # noqa: PLC0415

    sys.exit(run(file, host, _port(port), reload=reload, loopback_only=loopback_only))


def _port(port: int | None) -> int:
    if port is not None:
        return port
    given = os.environ.get("PORT", "").strip()
    return int(given) if given.isascii() and given.isdigit() and int(given) <= _HIGHEST_PORT else 8080


@main.command()
@click.option("--host", help="Address of the health endpoints.  [default: API_HOST, else all]")
@click.option("--port", type=int, help="Port of the health endpoints.  [default: API_PORT or PORT, else 8000]")
def worker(host: str | None, port: int | None) -> None:
    """Run background tasks until SIGTERM or Ctrl-C, then finish the running ones or return them to the queue.

    The most important settings, besides those of the model:

    \b
      REDIS_URL            Redis server that stores the tasks; required
      WORKER_CONCURRENCY   number of tasks that run concurrently (default 8)
      TASK_TIMEOUT_SECONDS maximum seconds for one attempt at a task (default 300)
      TASK_MAX_ATTEMPTS    maximum number of attempts at a task (default 5)

    The port serves /health/live, /health/ready and /metrics. In production, /metrics is only on METRICS_PORT.
    A second SIGTERM returns running tasks to the queue immediately.

    Exit codes: 0 after a clean shutdown, 1 if it could not start, 2 if a setting is invalid.
    """
    chosen = _load(host, port)
    if chosen.redis_address is None:
        _refuse(
            "REDIS_URL: is not set; a worker needs the Redis of the API (without one, the API runs the tasks itself)"
        )
    from agent_service.server.worker import run  # noqa: PLC0415

    sys.exit(run(chosen))


@main.command()
@click.argument("message")
@click.option("--url", help="Address of the agent.  [default: port API_PORT or PORT, else 8000, of this machine]")
@click.option(
    "--api",
    type=click.Choice(["native", "openai", "anthropic", "a2a", "mcp"]),
    default="native",
    show_default=True,
    help="Protocol in which to ask: native is the agent's own, POST /chat.",
)
@click.option("--timeout", type=click.FloatRange(min=0.1), default=90.0, show_default=True, help="Seconds to wait.")
@click.option(
    "--connect-timeout",
    type=click.FloatRange(min=0),
    default=15.0,  # client.connection.CONNECT_SECONDS, without the import that `agent-service serve` does not need
    show_default=True,
    help="Seconds to retry while no connection can be made, for example to a new Service.",
)
def ask(message: str, url: str | None, api: str, timeout: float, connect_timeout: float) -> None:
    """Send a message to a running agent, and print its answer as it arrives.

    In the agent's own container, or next to it:

    \b
      kubectl exec deployment/my-agent -- agent-service ask "Are you there?"

    If the agent requires a client key, the first key of API_KEYS, or of the file of that name in SECRETS_DIR, is sent.

    With --api, the question takes the way of another client, for example that of the OpenAI SDK. Over MCP, the answer
    arrives in one piece.

    Exit codes: 0 if the agent answered, 1 if it did not, or not to the end, with a line that explains why.
    """
    from agent_service.client.ask import AskError, client_key  # noqa: PLC0415
    from agent_service.client.ask import ask as pieces_of  # noqa: PLC0415

    port = os.environ.get("API_PORT") or os.environ.get("PORT") or "8000"
    began = False
    try:
        address = (url or f"http://localhost:{port}").strip()
        for piece in pieces_of(
            address, message, key=client_key(), seconds=timeout, api=api, connect_seconds=connect_timeout
        ):
            click.echo(harmless(piece), nl=False)
            began = True
        click.echo()
    except AskError as error:
        if began:
            click.echo()
        _show(str(error), error=True)
        sys.exit(1)


def _show(text: str, *, error: bool = False) -> None:
    """Print a text that may come from elsewhere, such as a model's answer. It cannot send commands to the terminal."""
    click.echo(harmless(text), err=error)


def _load(host: str | None, port: int | None, **overrides: object) -> Settings:
    # Before anything imports OpenTelemetry, which reads its variables when it is imported.
    otel_environment.repair()
    try:
        return load(api_host=host, API_PORT=port, **overrides)
    except SettingsError as error:
        _refuse(*error.faults)


def _refuse(*faults: str) -> NoReturn:
    for fault in faults:
        _show(fault, error=True)
    sys.exit(_INVALID_SETTINGS)
