"""The official MCP client calls a real MCP server's tools through the gateway of the real service."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import httpx2
import mcp_types as types
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from support.agent import Service, StartService
from support.collector import Collector
from support.eventually import eventually, eventually_async
from support.sums import running_sums_server, tools_file_of
from support.tool_gateway import REVISIONS, Revision
from testbed.ports import free_port

pytestmark = pytest.mark.timing

TRACE, PARENT = "a" * 32, "b" * 16


@pytest.fixture(scope="module")
def sums() -> Iterator[str]:
    with running_sums_server() as url:
        yield url


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def service(start_service: StartService, tmp_path: Path, sums: str, port: int, collector: Collector) -> Service:
    return start_service(
        MODEL_PROVIDER="echo",
        GATEWAY_PORT=str(port),
        TOOLS_FILE=str(tools_file_of(tmp_path, sums)),
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_BSP_SCHEDULE_DELAY="100",
    )


@asynccontextmanager
async def client(port: int, revision: Revision, headers: dict[str, str] | None = None) -> AsyncIterator[Client]:
    url = f"http://127.0.0.1:{port}/mcp"
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60, trust_env=False) as http,
        Client(streamable_http_client(url, http_client=http), mode=revision) as connected,
    ):
        yield connected


def said(result: types.CallToolResult) -> str:
    return "".join(block.text for block in result.content if isinstance(block, types.TextContent))


@pytest.mark.parametrize("revision", REVISIONS)
async def test_calls_are_counted_and_traced_as_those_of_the_agents_own_loop(
    service: Service, port: int, revision: Revision, collector: Collector
) -> None:
    async with client(port, revision, {"traceparent": f"00-{TRACE}-{PARENT}-01"}) as tools:
        assert [tool.name for tool in (await tools.list_tools()).tools] == ["add", "wait_for"]
        added = await tools.call_tool("add", {"a": 20, "b": 22})
        invalid = await tools.call_tool("add", {"a": "twenty"})
        with pytest.raises(MCPError, match="Unknown tool: divide"):
            await tools.call_tool("divide", {})

    assert (said(added), added.is_error, invalid.is_error) == ("42", False, True)
    for outcome, server, tool in (("ok", "sums", "add"), ("error", "sums", "add"), ("unknown_tool", *["unknown"] * 2)):
        labels = f'outcome="{outcome}",server="{server}",tool="{tool}"'
        assert service.metric(f"agent_tool_calls_total{{{labels}}}") == 1
    assert service.metric('agent_gateway_requests_total{route="/mcp",status="499"}') == 0
    eventually(lambda: len(collector.spans()) >= 3, "the spans of the calls arrive")
    assert {span.name for span in collector.spans()} == {"execute_tool add", "execute_tool unknown"}
    assert {(span.trace_id.hex(), span.parent_span_id.hex()) for span in collector.spans()} == {(TRACE, PARENT)}
    assert "Traceback" not in service.log()


@pytest.mark.parametrize("revision", REVISIONS)
async def test_sigterm_cuts_no_call(service: Service, port: int, revision: Revision, tmp_path: Path) -> None:
    started, ended = tmp_path / "started", tmp_path / "ended"

    async def exists() -> bool:
        return started.exists()

    async def drains() -> bool:
        async with httpx.AsyncClient() as http:
            return (await http.get(f"{service.url}/health/ready")).status_code == 503

    async with client(port, revision) as tools:
        call = asyncio.create_task(tools.call_tool("wait_for", {"started": str(started), "ended": str(ended)}))
        await eventually_async(exists, "the tool runs")
        service.terminate()
        await eventually_async(drains, "the service drains")
        ended.touch()
        assert said(await call) == "It exists."

    assert service.wait() == 0
