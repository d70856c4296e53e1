"""What the service reports of its servers of tools: metrics with the kind of the failure, and `/health`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.agent import MakeClient, StartService
from support.eventually import eventually, eventually_async
from support.mcp_servers import StartServer, sdk_server
from support.tool_agent import agent_with
from support.toolbox import Tools, entry, running_tools, write, write_secret
from testbed.ports import free_port

OWN = ("add", "fail", "grow", "headers", "picture", "shrink", "slow", "text", "total", "who")
TOKEN = "a-token-of-the-tests"
HEADER = {"headersFrom": [{"name": "Authorization", "prefix": "Bearer ", "secretKeyRef": {"name": "mcp", "key": "t"}}]}


@asynccontextmanager
async def web_server(answer: bytes) -> AsyncIterator[str]:
    """Run a server that answers everything with these bytes; yield its address."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"


def page(status: str, body: str = "<p>Hello</p>") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: text/html\r\ncontent-length: {len(body)}\r\nconnection: close"
    return f"{head}\r\n\r\n{body}".encode()


async def fails_with(tools: Tools, kind: str) -> None:
    async def published() -> bool:
        return tools.metric("agent_tool_server_failing", server="web", kind=kind) == 1

    await eventually_async(published, f"the server fails with {kind}: {tools.box.states()}")
    assert tools.metric("agent_tool_server_up", server="web") == 0


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (page("404 Not Found"), "no_endpoint"),
        (page("405 Method Not Allowed"), "no_endpoint"),
        (page("403 Forbidden"), "credentials_refused"),
        (page("400 Bad Request"), "refused"),
        (page("502 Bad Gateway"), "failed"),
        (page("307 Temporary Redirect"), "redirect"),
        (page("200 OK"), "protocol"),
        (page("200 OK", "x" * 3 * 2**20), "too_large"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "disconnected"),
        (b"", "disconnected"),
    ],
)
async def test_what_a_server_answers_is_the_kind_of_its_failure(answer: bytes, kind: str, tmp_path: Path) -> None:
    async with web_server(answer) as url, running_tools(tmp_path, {"name": "web", "mcp": {"url": url}}) as tools:
        await fails_with(tools, kind)


@pytest.mark.parametrize(
    ("mcp", "kind"),
    [
        ({"url": "http://no-such-host.invalid/mcp"}, "dns"),
        ({"url": "http://169.254.169.254/mcp"}, "refused_address"),
        ({"url": "http://127.0.0.1:9/mcp", **HEADER}, "no_secret"),
    ],
)
async def test_a_server_that_cannot_be_contacted_has_the_reason_as_kind(
    mcp: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    async with running_tools(tmp_path, {"name": "web", "mcp": mcp}) as tools:
        await fails_with(tools, kind)


async def test_the_kind_follows_the_failure_and_ends_with_it(start_mcp: StartServer, tmp_path: Path) -> None:
    write_secret(tmp_path, "mcp", "t", "a-wrong-token-of-the-tests")
    async with running_tools(tmp_path, entry(start_mcp(token=TOKEN), "web", mcp=HEADER)) as tools:
        await fails_with(tools, "credentials_refused")
        write_secret(tmp_path, "mcp", "t", "")
        await fails_with(tools, "no_secret")
        assert tools.metric("agent_tool_server_failing", server="web", kind="credentials_refused") == 0
        write_secret(tmp_path, "mcp", "t", TOKEN)
        await tools.until(*OWN)

        assert tools.metric("agent_tool_server_failing", server="web", kind="no_secret") == 0
        assert tools.metric("agent_tool_server_up", server="web") == 1


async def test_the_hash_of_a_list_changes_only_with_its_tools(start_mcp: StartServer, tmp_path: Path) -> None:
    server = start_mcp()
    async with running_tools(tmp_path, entry(server)) as tools:
        await tools.until(*OWN)
        first = tools.metric("agent_tool_list_hash", server="small")
        await tools.call("grow", name="grown")
        await tools.until(*OWN, "grown")
        grown = tools.metric("agent_tool_list_hash", server="small")
        # A new process has the tools that it started with.
        await asyncio.to_thread(server.restart)
        await tools.call("who")
        await tools.until(*OWN)

        assert first is not None
        assert grown != first
        assert tools.metric("agent_tool_list_hash", server="small") == first


async def test_health_shows_each_server_and_what_its_definition_does_not_match(
    make_client: MakeClient, start_mcp: StartServer, tmp_path: Path
) -> None:
    servers = (
        entry(start_mcp(), "one", allow=["who", "read_*"]),
        entry(start_mcp(), "two", allow=["who"], onUnavailable="fail"),
        {"name": "away", "mcp": {"url": f"http://127.0.0.1:{free_port()}/mcp?key=a-key-of-the-tests"}},
    )
    client = await agent_with(make_client, tmp_path, *servers)

    async def known() -> dict[str, Any] | None:
        answer = (await client.get("/health")).json()["components"]["tools"]
        return answer if "unknown" not in {each["status"] for each in answer["servers"].values()} else None

    found = await eventually_async(known, "all servers were contacted")

    assert found["status"] == "up"
    assert found["detail"] == "2 of 3 servers are connected; away is unavailable (connection_refused)."
    one = found["servers"]["one"]
    assert (one["status"], one["tools"], one["offered"]) == ("up", len(OWN), 1)
    assert (one["unmatched"], one["renamed"]) == (["read_*"], ["one__who"])
    assert one["server"]
    assert one["revision"] == "2026-07-28"
    assert found["servers"]["two"]["required"] is True
    assert found["servers"]["away"] == {
        "status": "down",
        "required": False,
        "kind": "connection_refused",
        "server": None,
        "revision": None,
        "tools": 0,
        "offered": 0,
        "renamed": [],
        "unmatched": [],
    }


async def test_health_is_down_with_a_server_that_the_agent_needs_and_the_pod_stays_ready(
    make_client: MakeClient, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{free_port()}/mcp"
    client = await agent_with(make_client, tmp_path, {"name": "web", "mcp": {"url": url}, "onUnavailable": "fail"})

    async def down() -> dict[str, Any] | None:
        answer = await client.get("/health")
        tools: dict[str, Any] = answer.json()["components"]["tools"]
        return tools if (answer.status_code, tools["status"]) == (503, "down") else None

    tools = await eventually_async(down, "the component is down")
    assert tools["kind"] == "connection_refused"
    assert (await client.get("/health/ready")).status_code == 200


async def test_an_agent_without_servers_has_no_such_component(make_client: MakeClient, tmp_path: Path) -> None:
    client = await agent_with(make_client, tmp_path, {"name": "web", "builtin": "web_search"})

    assert "tools" not in (await client.get("/health")).json()["components"]


@pytest.mark.parametrize("processes", [1, 2])
def test_the_metrics_follow_a_server_that_comes(processes: int, start_service: StartService, tmp_path: Path) -> None:
    late = sdk_server(tmp_path)
    file = tmp_path / "tools.json"
    write(file, [entry(late, "late")])
    service = start_service(MODEL_PROVIDER="echo", TOOLS_FILE=str(file), API_WORKERS=str(processes), awaits="")

    def published() -> dict[str, float]:
        families = text_string_to_metric_families(service.get("/metrics").text)
        samples = [sample for family in families for sample in family.samples if sample.labels.get("server") == "late"]
        names = ("agent_tool_server_up", "agent_tool_server_failing", "agent_tool_list_hash")
        return {f"{each.name} {each.labels.get('kind')}": each.value for each in samples if each.name in names}

    failing, up = "agent_tool_server_failing connection_refused", "agent_tool_server_up None"
    down = {up: 0, failing: 1}
    eventually(lambda: published() == down, f"the server is down: {published()}")
    try:
        late.start()
        eventually(lambda: published().get(failing) == 0, "the server is up for all processes", 60)
        found = published()
    finally:
        late.kill()
    assert found[up] == 1
    assert found["agent_tool_list_hash None"] > 0
    assert len(found) == 3
