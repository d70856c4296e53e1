"""Agents written with other people's frameworks, each as the framework's own documentation shows, and one in Go."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from support.eventually import eventually
from support.virtual_environment import virtual_environment
from testbed import golang
from testbed.errors import TestbedError
from testbed.ports import free_port

_HERE = Path(__file__).parent
# Made by `uv pip compile --python-version 3.11 --generate-hashes --no-annotate --no-header` from a2a-sdk[http-server],
# bedrock-agentcore, claude-agent-sdk, google-adk[a2a], langgraph, langchain-anthropic, langchain-mcp-adapters,
# pydantic-ai-slim[anthropic] and uvicorn.
LOCK = _HERE / "lock.txt"
# The folder of a Dockerfile with the agent for Bedrock AgentCore. Its packages, agentcore.txt, were locked in the same
# way from bedrock-agentcore and anthropic, with `--universal`.
IMAGE_CONTEXT = _HERE

# The imports of ADK take ten seconds of CPU, and other tests run beside them.
START_SECONDS = 120


@dataclass(frozen=True)
class Framework:
    """A framework: its agent's file, the protocol that the agent speaks, and the path that shows that it has started.

    `environment` is what the agent needs besides the variables that Portside sets.
    """

    file: str
    protocol: str
    health_path: str
    environment: tuple[tuple[str, str], ...] = ()


_CLAUDE = (("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),)

FRAMEWORKS = {
    "bedrock-agentcore": Framework("agentcore_agent.py", "invocations", "/ping"),
    "langgraph": Framework("langgraph_agent.py", "invocations", "/ping"),
    "claude-agent-sdk": Framework("claude_sdk_agent.py", "invocations", "/ping", _CLAUDE),
    "google-adk": Framework("adk_agent.py", "a2a", "/.well-known/agent-card.json"),
    "a2a-sdk": Framework("a2a_agent.py", "a2a", "/.well-known/agent-card.json"),
    "pydantic-ai": Framework("pydantic_ai_agent.py", "openai", "/health"),
    "go": Framework("go", "invocations", "/ping"),
}

# Agents that call the tools of the gateway.
WITH_TOOLS = {
    "langgraph-tools": Framework("langgraph_tools_agent.py", "invocations", "/ping"),
    "claude-agent-sdk-tools": Framework("claude_sdk_tools_agent.py", "invocations", "/ping", _CLAUDE),
}


def go_program(folder: Path) -> Path:
    """Return the agent in Go, compiled into `folder`."""
    program = folder / "agent"
    done = subprocess.run(
        ["go", "build", "-o", program, "."],
        cwd=_HERE / "agents" / "go",
        env=golang.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise TestbedError(f"The agent in Go could not be compiled:\n{done.stderr}")
    return program


@contextmanager
def running_framework(name: str, *, gateway_port: int, folder: Path) -> Iterator[str]:
    """Run the framework's agent with the environment that Portside gives a runtime, and yield its address.

    It has no key of the model API: only the gateway on `gateway_port`.
    """
    framework = {**FRAMEWORKS, **WITH_TOOLS}[name]
    port = free_port()
    if name == "go":
        command: list[str | Path] = [go_program(folder)]
    else:
        command = [
            virtual_environment("frameworks", LOCK) / "bin" / "python",
            _HERE / "agents" / framework.file,
        ]
    gateway = f"http://127.0.0.1:{gateway_port}"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PORT": str(port),
        "ANTHROPIC_BASE_URL": gateway,
        "OPENAI_BASE_URL": f"{gateway}/v1",
        "ANTHROPIC_API_KEY": "portside-gateway",
        "OPENAI_API_KEY": "portside-gateway",
        "PORTSIDE_MODEL": "claude-sonnet-5-5",
        "ANTHROPIC_MODEL": "claude-sonnet-5-5",
        **({"PORTSIDE_MCP_URL": f"{gateway}/mcp"} if name in WITH_TOOLS else {}),
        **dict(framework.environment),
    }
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: _responds(process, url + framework.health_path, log), f"{name} responds", START_SECONDS)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        sys.stdout.write(log.read_text(encoding="utf-8", errors="replace"))


def _responds(process: subprocess.Popen[bytes], url: str, log: Path) -> bool:
    if process.poll() is not None:
        raise TestbedError(f"It ended with {process.returncode}:\n{log.read_text(errors='replace')}")
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.TransportError:
        return False
