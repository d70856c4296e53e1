"""The gateway in the test's own process, with tools that a test controls, and the official MCP client."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx2
from mcp import Client
from mcp.client.session import MessageHandlerFnT
from mcp.client.streamable_http import streamable_http_client

from agent_service.agent.errors import ModelError
from agent_service.agent.tools import Caller, Tool, Toolbox, ToolResult, ToolUse
from agent_service.components import make_components
from agent_service.config.loading import load
from agent_service.gateway.create import create_gateway
from agent_service.gateway.server import Gateway
from agent_service.lifecycle import Lifecycle
from agent_service.telemetry.metrics import Metrics

# The official client's names for the stateless revision of 2026-07-28 and for the one with sessions before it.
Revision = Literal["auto", "legacy"]
REVISIONS: tuple[Revision, ...] = ("auto", "legacy")

PIXEL = "iVBORw0KGgo="


def tool(name: str) -> Tool:
    """Return a tool of the server `box`."""
    schema = {"type": "object", "properties": {"words": {"type": "string"}}}
    return Tool(name, f"The tool {name}.", schema, "box", name)


@dataclass
class Box:
    """Tools in this process. `hold` waits for `released`; `unavailable` is raised in place of the list."""

    offered: list[Tool] = field(default_factory=lambda: [tool("say"), tool("hold")])
    calls: list[tuple[ToolUse, Caller]] = field(default_factory=list)
    running: int = 0
    listings: int = 0
    released: asyncio.Event = field(default_factory=asyncio.Event)
    unavailable: ModelError | None = None
    server_tools: Sequence[Mapping[str, Any]] = ()

    async def tools(self) -> Sequence[Tool]:
        self.listings += 1
        if self.unavailable is not None:
            raise self.unavailable
        return self.offered

    async def call(self, use: ToolUse, caller: Caller) -> ToolResult:
        self.calls.append((use, caller))
        self.running += 1
        try:
            if use.name == "hold":
                await self.released.wait()
        finally:
            self.running -= 1
        return _result(use)


def _result(use: ToolUse) -> ToolResult:
    match use.name, use.input.get("words", "nothing"):
        case "say", "fail":
            return ToolResult(use.id, ({"type": "text", "text": "It failed."},), is_error=True, outcome="error")
        case "say", "crash":
            raise RuntimeError("a secret of the tool")
        case "say", "media":
            sources = {"image": "image/png", "document": "application/pdf"}
            blocks = tuple(
                {"type": kind, "source": {"type": "base64", "media_type": media_type, "data": PIXEL}}
                for kind, media_type in sources.items()
            )
            return ToolResult(use.id, blocks)
        case (("say" | "hold"), words):
            return ToolResult(use.id, ({"type": "text", "text": f"You said {words}."},))
    text = {"type": "text", "text": "There is no tool of this name."}
    return ToolResult(use.id, (text,), is_error=True, outcome="unknown_tool")


@dataclass(frozen=True)
class ToolGateway:
    """A running gateway with its tools."""

    gateway: Gateway
    box: Box
    lifecycle: Lifecycle
    turns: Any
    metrics: Metrics

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gateway.port}/mcp"

    def requests(self, status: int) -> float:
        """Return how many requests had this status."""
        labels = {"route": "/mcp", "status": str(status)}
        return self.metrics.registry.get_sample_value("agent_gateway_requests_total", labels) or 0.0

    @asynccontextmanager
    async def client(
        self,
        revision: Revision = "auto",
        *,
        headers: Mapping[str, str] | None = None,
        on_message: MessageHandlerFnT | None = None,
    ) -> AsyncIterator[Client]:
        """Connect the official client, which sends further headers with each request."""
        async with (
            httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False) as http,
            Client(
                streamable_http_client(self.url, http_client=http), mode=revision, message_handler=on_message
            ) as client,
        ):
            yield client


MakeToolGateway = Callable[..., Awaitable[ToolGateway]]


@asynccontextmanager
async def running_tool_gateway(box: Toolbox | None, redis_url: str, **given: object) -> AsyncIterator[ToolGateway]:
    """Run a gateway with the tools of `box`, of any kind; further arguments are settings by name."""
    lifecycle = Lifecycle()
    settings = load(**{"model_provider": "echo", "gateway_port": 0, "redis_url": redis_url, **given})
    components = make_components(settings, lifecycle)
    gateway = create_gateway(
        settings,
        lifecycle,
        turns=components.turns,
        endpoint=None,
        limits=components.limits,
        metrics=components.metrics,
        tracer=components.tracing.tracer(),
        waiting=nullcontext,
        toolbox=box,
    )
    async with gateway.running():
        yield ToolGateway(
            gateway, box if isinstance(box, Box) else Box(), lifecycle, components.turns, components.metrics
        )
