"""A running toolbox in this process, and what tests ask of it."""

import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry.trace import NoOpTracer, Tracer

from agent_service.agent.tools import Caller, Tool, ToolResult, ToolUse
from agent_service.telemetry.metrics import Metrics
from agent_service.tooling.toolbox import McpToolbox
from support.eventually import eventually_async
from support.mcp_servers import McpServer

Entry = dict[str, Any]


@dataclass
class Tools:
    """A running toolbox. `file` is its definition."""

    box: McpToolbox
    file: Path
    metrics: Metrics

    async def names(self) -> list[str]:
        """Return the names of the tools that can be called now."""
        return [tool.name for tool in await self.box.tools()]

    async def until(self, *names: str) -> Sequence[Tool]:
        """Wait until exactly these tools can be called, and return them."""

        async def listed() -> Sequence[Tool] | None:
            tools = await self.box.tools()
            return tools if sorted(tool.name for tool in tools) == sorted(names) else None

        return await eventually_async(listed, f"the tools are {names}")

    async def until_listed(self, name: str) -> None:
        """Wait until a tool can be called."""

        async def listed() -> bool:
            return name in await self.names()

        await eventually_async(listed, f"{name} can be called")

    async def call(self, tool: str, *, seconds: float = 60, token: str | None = None, **arguments: Any) -> ToolResult:
        """Call a tool within `seconds`."""
        caller = Caller(deadline=time.time() + seconds, token=token)
        return await self.box.call(ToolUse("call-1", tool, arguments), caller)

    def metric(self, name: str, **labels: str) -> float | None:
        """Return the value of a metric."""
        return self.metrics.registry.get_sample_value(name, labels)

    def define(self, *entries: Entry) -> None:
        """Replace the definition."""
        write(self.file, entries)


def write(file: Path, entries: Sequence[Entry]) -> None:
    """Write a definition as Kubernetes does: the file is replaced as a whole."""
    new = file.with_suffix(".new")
    new.write_text(json.dumps({"tools": list(entries)}), encoding="utf-8")
    new.replace(file)


def entry(server: McpServer, name: str = "small", *, mcp: Entry | None = None, **fields: Any) -> Entry:
    """Return an entry with a server; `mcp` has more fields of its part `mcp`."""
    return {"name": name, "mcp": {"url": server.url, **(mcp or {})}, **fields}


def text(result: ToolResult) -> str:
    """Return the texts of a result."""
    return "\n".join(block["text"] for block in result.content if block["type"] == "text")


@asynccontextmanager
async def running_tools(
    folder: Path, *entries: Entry, tracer: Tracer | None = None, logs_content: bool = False
) -> AsyncIterator[Tools]:
    """Run a toolbox with these entries; its secrets are in `folder/secrets`."""
    file = folder / "tools.json"
    write(file, entries)
    metrics = Metrics(version="1", provider="echo", model="echo")
    box = McpToolbox(
        file, folder / "secrets", metrics=metrics, tracer=tracer or NoOpTracer(), logs_content=logs_content
    )
    async with box.running():
        yield Tools(box, file, metrics)


def write_secret(folder: Path, name: str, key: str, value: str) -> None:
    """Write a key of a Secret into the folder of `running_tools`, atomically."""
    file = folder / "secrets" / name / key
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    new.write_text(value, encoding="utf-8")
    new.replace(file)
