"""The gateway's `/mcp` as the official MCP client sees it, in both revisions of the protocol."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import mcp_types as types
import pytest
from mcp.shared.exceptions import MCPError

from agent_service.agent.errors import UnreachableError
from agent_service.agent.messages import Usage
from agent_service.agent.turns import Turn
from support.eventually import eventually_async
from support.redis_server import RedisServer
from support.tool_gateway import (
    PIXEL,
    REVISIONS,
    Box,
    MakeToolGateway,
    Revision,
    ToolGateway,
    running_tool_gateway,
    tool,
)

HEADERS = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}


@pytest.fixture
async def make(redis_server: RedisServer) -> AsyncIterator[MakeToolGateway]:
    """Yield a factory of gateways with a box of tools; arguments are settings by name."""
    async with AsyncExitStack() as stack:

        async def start(**given: Any) -> ToolGateway:
            return await stack.enter_async_context(running_tool_gateway(Box(), redis_server.url, **given))

        yield start


@pytest.fixture
async def gateway(make: MakeToolGateway) -> AsyncIterator[ToolGateway]:
    """Yield a gateway, of which nothing may be left in progress at the end."""
    running = await make()
    yield running
    await idle(running)


async def idle(gateway: ToolGateway) -> None:
    async def is_idle() -> bool:
        return gateway.box.running == 0 and gateway.lifecycle.calls == 0

    await eventually_async(is_idle, "no call is in progress")


async def calls_run(gateway: ToolGateway, number: int) -> None:
    async def run() -> bool:
        return gateway.box.running == number

    await eventually_async(run, f"{number} calls are in progress")


def text_of(result: types.CallToolResult) -> str:
    (content,) = result.content
    assert isinstance(content, types.TextContent)
    return content.text


def turn_of(**given: Any) -> Turn:
    return Turn(Usage(), **{"deadline": time.time() + 77, "client": "alice", **given})


@pytest.mark.parametrize("revision", REVISIONS)
class TestBothRevisions:
    async def test_tools_are_listed_and_called(self, gateway: ToolGateway, revision: Revision) -> None:
        async with gateway.client(revision) as client:
            version = client.protocol_version
            listed = (await client.list_tools()).tools
            result = await client.call_tool("say", {"words": "hello"})

        assert version == {"auto": "2026-07-28", "legacy": "2025-11-25"}[revision]
        assert [(each.name, each.description) for each in listed] == [
            ("say", "The tool say."),
            ("hold", "The tool hold."),
        ]
        assert listed[0].input_schema == gateway.box.offered[0].input_schema
        assert (text_of(result), result.is_error) == ("You said hello.", False)

    async def test_images_and_documents_arrive(self, gateway: ToolGateway, revision: Revision) -> None:
        async with gateway.client(revision) as client:
            image, document = (await client.call_tool("say", {"words": "media"})).content

        assert isinstance(image, types.ImageContent)
        assert (image.mime_type, image.data) == ("image/png", PIXEL)
        assert isinstance(document, types.EmbeddedResource)
        assert isinstance(document.resource, types.BlobResourceContents)
        assert (document.resource.mime_type, document.resource.blob) == ("application/pdf", PIXEL)

    async def test_an_error_of_the_tool_is_a_result_for_the_model(
        self, gateway: ToolGateway, revision: Revision
    ) -> None:
        async with gateway.client(revision) as client:
            result = await client.call_tool("say", {"words": "fail"})

        assert (text_of(result), result.is_error) == ("It failed.", True)

    async def test_an_unknown_tool_and_a_failure_of_ours_are_errors_of_the_protocol(
        self, gateway: ToolGateway, revision: Revision
    ) -> None:
        async with gateway.client(revision) as client:
            with pytest.raises(MCPError, match="Unknown tool: nothing") as unknown:
                await client.call_tool("nothing", {})
            with pytest.raises(MCPError, match="its log says why") as failed:
                await client.call_tool("say", {"words": "crash"})
            with pytest.raises(MCPError) as missing:
                await client.list_resources()

        codes = [error.value.error.code for error in (unknown, failed, missing)]
        assert codes == [types.INVALID_PARAMS, types.INTERNAL_ERROR, types.METHOD_NOT_FOUND]

    async def test_a_server_that_the_agent_needs_and_that_is_down_is_an_error(
        self, gateway: ToolGateway, revision: Revision
    ) -> None:
        gateway.box.unavailable = UnreachableError("The server of a tool that this agent needs is unavailable.")
        async with gateway.client(revision) as client:
            with pytest.raises(MCPError, match="that this agent needs is unavailable"):
                await client.list_tools()

    async def test_progress_is_reported_while_a_call_runs(self, gateway: ToolGateway, revision: Revision) -> None:
        reported: list[float] = []

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            reported.append(progress)
            assert (total, message) == (None, "The tool is running.")
            if len(reported) == 2:
                gateway.box.released.set()

        async with gateway.client(revision) as client:
            result = await client.call_tool("hold", {"words": "late"}, progress_callback=on_progress)

        assert text_of(result) == "You said late."
        assert reported == sorted(set(reported))

    async def test_a_cancelled_call_ends_and_others_go_on(self, gateway: ToolGateway, revision: Revision) -> None:
        async with gateway.client(revision) as client:
            calls = [asyncio.create_task(client.call_tool("hold", {"words": str(number)})) for number in range(2)]
            await calls_run(gateway, 2)
            calls[0].cancel()
            await calls_run(gateway, 1)
            gateway.box.released.set()
            assert "You said 1." in text_of(await calls[1])
            assert text_of(await client.call_tool("say", {"words": "again"})) == "You said again."

    async def test_a_client_that_leaves_ends_its_call(self, gateway: ToolGateway, revision: Revision) -> None:
        async with gateway.client(revision) as client:
            call = asyncio.create_task(client.call_tool("hold", {}))
            await calls_run(gateway, 1)
        await idle(gateway)
        with pytest.raises((MCPError, asyncio.CancelledError)):
            await call

    async def test_100_calls_run_side_by_side_and_keep_their_results(
        self, gateway: ToolGateway, revision: Revision
    ) -> None:
        async with gateway.client(revision) as client:
            names = [str(number) for number in range(100)]
            results = await asyncio.gather(*(client.call_tool("say", {"words": name}) for name in names))

        assert [text_of(result) for result in results] == [f"You said {name}." for name in names]
        assert gateway.requests(499) == 0

    async def test_calls_beyond_the_bound_are_refused_and_later_ones_are_not(
        self, make: MakeToolGateway, revision: Revision
    ) -> None:
        gateway = await make(max_in_flight=5)
        async with gateway.client(revision) as client:
            held = [asyncio.create_task(client.call_tool("hold", {})) for _ in range(5)]
            await calls_run(gateway, 5)
            with pytest.raises(MCPError, match="5 calls in flight, which is its limit"):
                await client.call_tool("say", {})
            gateway.box.released.set()
            await asyncio.gather(*held)
            await idle(gateway)
            assert text_of(await client.call_tool("say", {"words": "now"})) == "You said now."
        assert gateway.requests(429) == 1

    async def test_a_turn_has_a_bound_of_tool_calls_and_the_model_reads_so(
        self, make: MakeToolGateway, revision: Revision
    ) -> None:
        gateway = await make(max_tool_calls=2)
        turn, other = turn_of(), turn_of()
        with gateway.turns.begin(turn), gateway.turns.begin(other):
            async with gateway.client(revision, headers={"baggage": f"portside.turn={turn.id}"}) as client:
                results = [await client.call_tool("say", {}) for _ in range(3)]
            async with gateway.client(revision, headers={"baggage": f"portside.turn={other.id}"}) as client:
                results.append(await client.call_tool("say", {}))

        assert [result.is_error for result in results] == [False, False, True, False]
        assert "has reached its limit of tool calls (2)" in text_of(results[2])
        assert len(gateway.box.calls) == 3

    @pytest.mark.parametrize("name", ["baggage", "traceparent", "X-Request-ID"])
    async def test_a_call_is_on_behalf_of_the_turn_that_its_headers_name(
        self, gateway: ToolGateway, revision: Revision, name: str
    ) -> None:
        turn = turn_of(request_id="r-1", trace_id="a" * 32, token="tok-of-alice")
        values = {
            "baggage": f"portside.turn={turn.id}",
            "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
            "X-Request-ID": "r-1",
        }
        with gateway.turns.begin(turn):
            async with gateway.client(revision, headers={name: values[name]}) as client:
                await client.call_tool("say", {})

        (_, caller), *_ = gateway.box.calls
        assert (caller.client, caller.token, caller.deadline) == ("alice", "tok-of-alice", turn.deadline)
        assert turn.tool_calls == 1

    async def test_a_call_may_name_its_turn_in_its_metadata(self, gateway: ToolGateway, revision: Revision) -> None:
        turn = turn_of()
        with gateway.turns.begin(turn):
            async with gateway.client(revision) as client:
                meta: Any = {"baggage": f"portside.turn={turn.id}"}
                await client.call_tool("say", {}, meta=meta)

        assert turn.tool_calls == 1

    async def test_a_call_of_no_turn_may_last_as_long_as_the_longest_answer(
        self, make: MakeToolGateway, revision: Revision
    ) -> None:
        gateway = await make(task_timeout_seconds=3000)
        before = time.time()
        async with gateway.client(revision) as client:
            await client.call_tool("say", {})

        (_, caller), *_ = gateway.box.calls
        assert caller.client is None
        assert before + 3000 <= caller.deadline <= time.time() + 3000

    async def test_a_client_goes_on_after_a_restart_of_the_gateway(
        self, redis_server: RedisServer, revision: Revision
    ) -> None:
        async with running_tool_gateway(Box(), redis_server.url) as first:
            port = first.gateway.port
            client = await (stack := AsyncExitStack()).enter_async_context(first.client(revision))
            await client.call_tool("say", {})
        async with running_tool_gateway(Box(), redis_server.url, gateway_port=port):
            assert text_of(await client.call_tool("say", {"words": "still here"})) == "You said still here."
            await stack.aclose()


class TestChanges:
    async def test_a_change_of_the_list_is_reported_to_a_session(self, gateway: ToolGateway) -> None:
        changed = asyncio.Event()

        async def on_message(message: object) -> None:
            if isinstance(message, types.ToolListChangedNotification):
                changed.set()

        async with gateway.client("legacy", on_message=on_message) as client:
            assert client.server_capabilities.tools == types.ToolsCapability(list_changed=True)
            await changes_are_awaited(gateway)
            gateway.box.offered = [tool("other")]
            await asyncio.wait_for(changed.wait(), 60)
            assert [each.name for each in (await client.list_tools()).tools] == ["other"]

    async def test_a_change_of_the_list_is_reported_to_a_listener(self, gateway: ToolGateway) -> None:
        async with gateway.client() as client, client.listen(tools_list_changed=True) as events:
            assert client.server_capabilities.tools == types.ToolsCapability(list_changed=True)
            await changes_are_awaited(gateway)
            gateway.box.offered = [tool("other")]
            async with asyncio.timeout(60):
                await anext(aiter(events))
            assert [each.name for each in (await client.list_tools()).tools] == ["other"]

    async def test_who_waits_for_changes_is_no_call_in_flight_and_does_not_delay_the_end(
        self, redis_server: RedisServer
    ) -> None:
        async with AsyncExitStack() as clients:
            async with running_tool_gateway(Box(), redis_server.url) as gateway:
                modern = await clients.enter_async_context(gateway.client())
                await clients.enter_async_context(gateway.client("legacy"))
                events = await clients.enter_async_context(modern.listen(tools_list_changed=True))
                await changes_are_awaited(gateway)
                assert gateway.lifecycle.calls == 0
            # The stream has an end: it was not cut.
            async with asyncio.timeout(60):
                assert [event async for event in events] == []


async def changes_are_awaited(gateway: ToolGateway) -> None:
    async def awaited() -> bool:
        return gateway.box.listings > 0

    gateway.box.listings = 0
    await eventually_async(awaited, "the gateway looks for changes")


class TestRequests:
    """What reaches the endpoint without the official client."""

    async def test_requests_of_browsers_are_refused_in_the_form_of_the_protocol(self, gateway: ToolGateway) -> None:
        async with httpx.AsyncClient(headers=HEADERS) as http:
            rebound = await http.post(gateway.url, json=LIST, headers={"host": "evil.example"})
            of_page = await http.post(gateway.url, json=LIST, headers={"origin": "http://evil.example"})

        assert (rebound.status_code, of_page.status_code) == (421, 403)
        for answer in (rebound, of_page):
            assert answer.json()["jsonrpc"] == "2.0"
            assert answer.json()["error"]["code"] == types.INVALID_REQUEST

    @pytest.mark.parametrize("version", [None, "2025-11-25", "2026-07-28"])
    async def test_bodies_are_bounded_and_must_be_messages(self, gateway: ToolGateway, version: str | None) -> None:
        headers = HEADERS if version is None else {**HEADERS, "mcp-protocol-version": version}
        async with httpx.AsyncClient(headers=headers) as http:
            large = await http.post(gateway.url, content=b" " * (4 * 2**20 + 1))
            packed = await http.post(gateway.url, json=LIST, headers={"content-encoding": "gzip"})
            broken = await http.post(gateway.url, content=b"{")
            batch = await http.post(gateway.url, json=[LIST])
            cancelled = await http.post(gateway.url, content=b'["notifications/cancelled"]')

        assert [each.status_code for each in (large, packed, broken, batch, cancelled)] == [413, 415, 400, 400, 400]
        for answer in (large, packed, broken, batch, cancelled):
            assert "error" in answer.json()

    async def test_a_request_without_a_handshake_is_answered(self, gateway: ToolGateway) -> None:
        async with httpx.AsyncClient(headers=HEADERS) as http:
            answer = await http.post(gateway.url, json=LIST)

        assert answer.status_code == 200
        assert '"name":"say"' in answer.text
        assert "mcp-session-id" not in answer.headers

    async def test_without_tools_there_is_no_such_route(self, redis_server: RedisServer) -> None:
        async with running_tool_gateway(None, redis_server.url) as gateway, httpx.AsyncClient() as http:
            answer = await http.post(gateway.url, json=LIST, headers=HEADERS)

        assert answer.status_code == 404
        assert answer.json()["error"]["message"] == "This agent has no tools; set `tools` of the agent."

    def test_without_tools_the_sdk_is_not_imported(self) -> None:
        program = "import sys, agent_service.app, agent_service.gateway.create as made; sys.exit('mcp' in sys.modules)"

        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
