"""Faults of real servers as a runtime sees them through the gateway's `/mcp`, in both revisions of the protocol."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from support.eventually import eventually_async
from support.mcp_servers import StartServer, eventually_recorded, hostile_server, sdk_server
from support.redis_server import RedisServer
from support.tool_gateway import REVISIONS, Revision, running_tool_gateway
from support.toolbox import entry, running_tools

pytestmark = pytest.mark.parametrize("revision", REVISIONS)

OWN = ("add", "fail", "grow", "headers", "picture", "shrink", "slow", "text", "total", "who")
MAY_HAVE_RUN = "The call may have run"
DID_NOT_RUN = "The call did not run"
HOSTILE = {
    "hundred_megabytes": MAY_HAVE_RUN,
    "endless_json": MAY_HAVE_RUN,
    "endless_notifications": MAY_HAVE_RUN,
    "never": MAY_HAVE_RUN,
    "broken": MAY_HAVE_RUN,
    "not_json": MAY_HAVE_RUN,
    "invalid_result": MAY_HAVE_RUN,
    "gateway_error": MAY_HAVE_RUN,
}


@asynccontextmanager
async def runtime(
    folder: Path, redis: RedisServer, revision: Revision, *entries: dict[str, Any], names: tuple[str, ...] = OWN
) -> AsyncIterator[Client]:
    """Connect a runtime's client to the gateway of an agent with these entries, once it offers these tools."""
    async with running_tools(folder, *entries) as tools, running_tool_gateway(tools.box, redis.url) as gateway:
        if names:
            await tools.until(*names)
        async with gateway.client(revision) as client:
            yield client

        async def idle() -> bool:
            return gateway.lifecycle.calls == 0

        await eventually_async(idle, "no call is in progress")


def text_of(result: types.CallToolResult) -> str:
    return "".join(block.text for block in result.content if isinstance(block, types.TextContent))


async def adds(client: Client, number: int) -> None:
    """Wait until a call adds one to a number."""

    async def added() -> bool:
        return text_of(await client.call_tool("add", {"a": 1, "b": number})) == str(number + 1)

    await eventually_async(added, "a call adds two numbers")


async def test_results_that_cannot_be_used_are_errors_for_the_model_of_the_runtime(
    redis_server: RedisServer, revision: Revision, start_mcp: StartServer, tmp_path: Path
) -> None:
    tools = [{"name": name, "inputSchema": {"type": "object"}} for name in HOSTILE]
    server = start_mcp(hostile_server, tools=tools)
    endless = ["endless_notifications", "never"]
    ending = [name for name in HOSTILE if name not in endless]
    entries = entry(server, "endless", allow=endless, timeoutSeconds=2), entry(server, "ending", allow=ending)
    async with runtime(tmp_path, redis_server, revision, *entries, names=tuple(HOSTILE)) as client:
        results = await asyncio.gather(*(client.call_tool(name, {}) for name in HOSTILE))

    assert [result.is_error for result in results] == [True] * len(HOSTILE)
    for (name, words), result in zip(HOSTILE.items(), results, strict=True):
        assert words in text_of(result), name
        # Nothing of what the server sent arrives.
        assert len(text_of(result)) < 1000


async def test_a_server_that_restarts_is_used_again_and_an_interrupted_call_may_have_run(
    redis_server: RedisServer, revision: Revision, start_mcp: StartServer, tmp_path: Path
) -> None:
    server = start_mcp(legacy=revision == "legacy")
    async with runtime(tmp_path, redis_server, revision, entry(server)) as client:
        await adds(client, 1)
        await asyncio.to_thread(server.restart)
        await adds(client, 2)
        call = asyncio.create_task(client.call_tool("slow", {"duration": 600, "label": "one"}))
        await eventually_recorded(server, "started")
        await asyncio.to_thread(server.restart)
        interrupted = await call
        await adds(client, 3)

    assert interrupted.is_error
    assert MAY_HAVE_RUN in text_of(interrupted)
    assert [each.get("b") for each in server.recorded()] == [1, 2, None, 3]


async def test_a_slow_call_ends_at_its_limit_and_invalid_input_is_the_servers_answer(
    redis_server: RedisServer, revision: Revision, start_mcp: StartServer, tmp_path: Path
) -> None:
    server = start_mcp()
    async with runtime(tmp_path, redis_server, revision, entry(server, timeoutSeconds=5)) as client:
        slow, sum_, invalid = await asyncio.gather(
            client.call_tool("slow", {"duration": 600, "label": "late"}),
            client.call_tool("add", {"a": 1, "b": 2}),
            client.call_tool("add", {"a": "one"}),
        )
        with pytest.raises(MCPError, match="Unknown tool: divide"):
            await client.call_tool("divide", {})
        await eventually_recorded(server, "cancelled")

    assert "did not arrive in time" in text_of(slow)
    assert (text_of(sum_), invalid.is_error) == ("3", True)


async def test_a_runtime_that_leaves_midway_ends_its_calls_at_the_server(
    redis_server: RedisServer, revision: Revision, start_mcp: StartServer, tmp_path: Path
) -> None:
    server = start_mcp()
    async with running_tools(tmp_path, entry(server)) as tools, running_tool_gateway(tools.box, redis_server.url) as at:
        await tools.until(*OWN)
        async with at.client(revision) as client:
            calls = [
                asyncio.create_task(client.call_tool("slow", {"duration": 600, "label": str(number)}))
                for number in range(3)
            ]
            await eventually_recorded(server, "started", 3)
        await eventually_recorded(server, "cancelled", 3)
        await asyncio.gather(*calls, return_exceptions=True)


async def test_a_hundred_calls_at_once_keep_their_results(
    redis_server: RedisServer, revision: Revision, start_mcp: StartServer, tmp_path: Path
) -> None:
    server = start_mcp()
    async with runtime(tmp_path, redis_server, revision, entry(server)) as client:
        results = await asyncio.gather(*(client.call_tool("add", {"a": number, "b": 0}) for number in range(100)))

    assert [text_of(result) for result in results] == [str(number) for number in range(100)]
    assert len(server.recorded()) == 100


async def test_a_server_that_is_down_at_the_start_is_offered_when_it_comes(
    redis_server: RedisServer, revision: Revision, tmp_path: Path
) -> None:
    late = sdk_server(tmp_path)
    async with runtime(tmp_path, redis_server, revision, entry(late), names=()) as client:
        assert (await client.list_tools()).tools == []
        try:
            await asyncio.to_thread(late.start)

            async def listed() -> bool:
                return len((await client.list_tools(cache_mode="bypass")).tools) == len(OWN)

            await eventually_async(listed, "the tools are listed")
            assert text_of(await client.call_tool("add", {"a": 1, "b": 1})) == "2"
        finally:
            late.kill()
