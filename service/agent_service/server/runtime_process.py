"""The process of `serve --runtime FILE`: the user's Python file beside the API, restarted when it ends."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from agent_service.child_process.keeper import Keeper, bound_to_this_process
from agent_service.config.settings import Settings
from agent_service.config.sources import given

_HOST = "127.0.0.1"
_PLACEHOLDER_KEY = "portside-gateway"

# Variables with credentials of the SDK that are no settings of ours.
_CREDENTIALS = frozenset({"ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_CUSTOM_HEADERS", "PORT"})

_SETTINGS = frozenset(name.upper() for name in Settings.model_fields)
_COLLECTOR = "OTEL_EXPORTER_OTLP_ENDPOINT"


def overrides() -> dict[str, object]:
    """Return the settings that connect the API and the file: free ports of this machine, and the protocol."""
    runtime, gateway = _free_ports(2)
    found: dict[str, object] = {
        "runtime_url": f"http://{_HOST}:{runtime}",
        "runtime_protocol": "invocations",
        "runtime_path": "/invocations",
        "runtime_health_path": "/ping",
    }
    # The file needs to know the port before the gateway listens.
    if given("GATEWAY_PORT") in {None, "0"}:
        found["gateway_port"] = gateway
    return found


@contextmanager
def running(file: Path, settings: Settings) -> Iterator[None]:
    """Run the file while the context lasts. `settings` include `overrides`."""
    port = urlsplit(settings.runtime_url or "").port or 0
    with tempfile.TemporaryDirectory(prefix="portside-") as folder:
        prompt = Path(folder, "system-prompt")
        prompt.write_text(settings.system_prompt or "", encoding="utf-8")
        keeper = Keeper(_File(file, port, environment(os.environ, settings, prompt)))
        keeper.start()
        try:
            yield
        finally:
            keeper.end()


def environment(environ: Mapping[str, str], settings: Settings, system_prompt: Path) -> dict[str, str]:
    """Return the environment of the file's process: that of this one, without our settings and credentials.

    It contains what a runtime in a pod gets, too.
    """
    gateway = f"http://{_HOST}:{settings.gateway_port}"
    kept = {name: value for name, value in environ.items() if not _is_ours(name.upper())}
    return {
        **kept,
        "ANTHROPIC_BASE_URL": gateway,
        "OPENAI_BASE_URL": f"{gateway}/v1",
        "ANTHROPIC_API_KEY": _PLACEHOLDER_KEY,
        "OPENAI_API_KEY": _PLACEHOLDER_KEY,
        "PORT": str(urlsplit(settings.runtime_url or "").port or ""),
        "PORTSIDE_MODEL": settings.default_model,
        "ANTHROPIC_MODEL": settings.default_model,
        "PORTSIDE_MAX_TOKENS": str(settings.max_tokens),
        "PORTSIDE_SYSTEM_PROMPT_FILE": str(system_prompt),
        **({} if settings.tools_file is None else {"PORTSIDE_MCP_URL": f"{gateway}/mcp"}),
        "LOG_LEVEL": settings.lowest_level,
        "LOG_FORMAT": settings.log_format,
        "PYTHONUNBUFFERED": "1",
    }


def _is_ours(name: str) -> bool:
    if name == _COLLECTOR:
        return False
    # Headers of the collector contain its key.
    return name in _SETTINGS or name in _CREDENTIALS or (name.startswith("OTEL_") and name.endswith("_HEADERS"))


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        # All at the same time, so that they differ.
        socks = [stack.enter_context(socket.create_server((_HOST, 0))) for _ in range(number)]
        return [sock.getsockname()[1] for sock in socks]


class _File:
    """The program that runs the user's file."""

    name = "Runtime"
    # The API has drained, so that no turn is in progress.
    stop_seconds = 5.0

    def __init__(self, file: Path, port: int, environ: Mapping[str, str]) -> None:
        # -P: a module in the current folder must not replace one of ours.
        command = [sys.executable, "-P", "-m", "agent_service.python_file", str(file.absolute()), str(port)]
        self._command = bound_to_this_process(command)
        self._environ = dict(environ)

    def start(self) -> "subprocess.Popen[bytes]":
        """Start the process. Ctrl-C at the terminal must reach only the API: the file ends after the last turn."""
        return subprocess.Popen(self._command, env=self._environ, stdin=subprocess.DEVNULL, start_new_session=True)

    def follow(self, child: "subprocess.Popen[bytes]") -> int:
        """Wait for the end of the process, and return its exit code."""
        return child.wait()

    def is_restarted(self) -> bool:
        """Return True: the file may be mended meanwhile."""
        return True
