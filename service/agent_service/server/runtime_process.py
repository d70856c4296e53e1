"""A Python file that answers, beside the API of `serve --runtime FILE`."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from agent_service.child_process.keeper import Keeper
from agent_service.config.settings import Settings
from agent_service.config.sources import given
from agent_service.server import file_process
from agent_service.server.file_process import HOST, FileProgram, free_ports

_PLACEHOLDER_KEY = "portside-gateway"


def overrides() -> dict[str, object]:
    """Return the settings that connect the API and the file: free ports of this machine, and the protocol."""
    runtime, gateway = free_ports(2)
    found: dict[str, object] = {
        "runtime_url": f"http://{HOST}:{runtime}",
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
        keeper = Keeper(FileProgram("Runtime", "runtime", file, port, environment(os.environ, settings, prompt)))
        keeper.start()
        try:
            yield
        finally:
            keeper.end()


def environment(environ: Mapping[str, str], settings: Settings, system_prompt: Path) -> dict[str, str]:
    """Return the environment of the file's process, which contains what a runtime in a pod gets, too."""
    gateway = f"http://{HOST}:{settings.gateway_port}"
    return {
        **file_process.environment(environ, settings),
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
    }
