"""Credentials of tool servers, and what a server must not cause: leaks, redirects, requests to other addresses."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.eventually import eventually_async
from support.mcp_servers import McpServer, StartServer, eventually_recorded, hostile_server, sdk_server
from support.toolbox import Tools, entry, running_tools, text, write_secret

OWN = ("add", "fail", "grow", "headers", "picture", "shrink", "slow", "text", "total", "who")
TOKEN = "a-token-of-the-tests-0001"
SECRET = "a-secret-of-the-tests-0001"
HEADERS = {
    "headersFrom": [
        {"name": "Authorization", "prefix": "Bearer ", "secretKeyRef": {"name": "mcp-token", "key": "token"}}
    ]
}
KINDS = {"2026-07-28": {}, "2025-11-25 with sessions": {"legacy": True}}
DID_NOT_RUN = "The call did not run"
OBJECT = {"type": "object"}


def grant(server: McpServer, **more: Any) -> dict[str, Any]:
    credentials = {
        "tokenUrl": server.url.replace("/mcp", "/token"),
        "clientId": "portside",
        "clientSecretKeyRef": {"name": "oauth", "key": "secret"},
    }
    return {"auth": {"clientCredentials": {**credentials, **more}}}


def expire(server: McpServer) -> None:
    """End all tokens at the server."""
    httpx.post(server.url.replace("/mcp", "/expire")).raise_for_status()


async def seen_headers(tools: Tools, **arguments: Any) -> dict[str, str]:
    """Return the headers that the server received with a call."""
    headers: dict[str, str] = json.loads(text(await tools.call("headers", **arguments)))
    return headers


async def test_headers_come_from_secrets_and_follow_their_changes(start_mcp: StartServer, tmp_path: Path) -> None:
    extra = {"name": "X-Team", "secretKeyRef": {"name": "team", "key": "name"}}
    write_secret(tmp_path, "mcp-token", "token", f"{TOKEN}\n")
    write_secret(tmp_path, "team", "name", "red")
    fields = {"headersFrom": [*HEADERS["headersFrom"], extra]}
    async with running_tools(tmp_path, entry(start_mcp(token=TOKEN), mcp=fields)) as tools:
        await tools.until(*OWN)
        before = await seen_headers(tools)
        write_secret(tmp_path, "team", "name", "blue")
        after = await seen_headers(tools)

    assert (before["x-team"], after["x-team"]) == ("red", "blue")


async def test_a_server_whose_secret_is_missing_is_used_when_it_comes(start_mcp: StartServer, tmp_path: Path) -> None:
    async with running_tools(tmp_path, entry(start_mcp(token=TOKEN), mcp=HEADERS)) as tools:
        assert await tools.names() == []
        assert tools.box.states()[0].kind == "no_secret"

        write_secret(tmp_path, "mcp-token", "token", TOKEN)
        await tools.until(*OWN)


async def test_a_token_that_expires_at_the_server_is_renewed_once(start_mcp: StartServer, tmp_path: Path) -> None:
    write_secret(tmp_path, "oauth", "secret", SECRET)
    server = start_mcp(secret=SECRET)
    fields = grant(server, scopes=["read", "write"], audience="tools")
    async with running_tools(tmp_path, entry(server, mcp=fields)) as tools:
        await tools.until(*OWN)
        issued = [each for each in server.recorded() if each.get("event") == "token"]
        await asyncio.to_thread(expire, server)
        results = await asyncio.gather(*(tools.call("add", a=number, b=0) for number in range(10)))

        assert [text(result) for result in results] == [str(number) for number in range(10)]
        renewed = [each for each in server.recorded() if each.get("event") == "token"]

    assert [each["form"]["scope"] for each in issued] == ["read write"]
    assert issued[0]["form"]["audience"] == "tools"
    assert len(renewed) == 2


async def test_a_token_is_renewed_before_it_expires(start_mcp: StartServer, tmp_path: Path) -> None:
    write_secret(tmp_path, "oauth", "secret", SECRET)
    server = start_mcp(secret=SECRET, expires_in=2)
    async with running_tools(tmp_path, entry(server, mcp=grant(server))) as tools:
        await tools.until(*OWN)

        async def renewed() -> bool:
            await tools.call("add", a=1, b=1)
            return len([each for each in server.recorded() if each.get("event") == "token"]) >= 3

        await eventually_async(renewed, "the token is renewed twice")

    assert not any(each.get("event") == "refused" and each["method"] == "POST" for each in server.recorded())


async def test_a_refused_client_of_the_token_endpoint_makes_the_server_unavailable(
    start_mcp: StartServer, tmp_path: Path
) -> None:
    write_secret(tmp_path, "oauth", "secret", "a-wrong-secret-of-the-tests")
    server = start_mcp(secret=SECRET)
    async with running_tools(tmp_path, entry(server, mcp=grant(server))) as tools:
        assert await tools.names() == []
        assert tools.box.states()[0].kind == "no_token"


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS.keys())
async def test_calls_are_made_with_the_token_of_their_caller(
    options: dict[str, Any], start_mcp: StartServer, tmp_path: Path
) -> None:
    server = start_mcp(**options)
    async with running_tools(tmp_path, entry(server, mcp={"forwardCaller": True})) as tools:
        await tools.until(*OWN)
        await asyncio.gather(*(tools.call("headers", token=f"token-of-user-{number}") for number in range(10)))
        without = await tools.call("headers")

    sent = sorted(each["headers"]["authorization"] for each in server.recorded())
    assert sent == [f"Bearer token-of-user-{number}" for number in range(10)]
    sessions = [each["headers"].get("mcp-session-id") for each in server.recorded()]
    assert len(set(sessions)) == (10 if "legacy" in options else 1)
    assert without.outcome == "unauthorized"
    assert DID_NOT_RUN in text(without)


async def test_the_token_of_a_caller_is_not_sent_to_other_servers(start_mcp: StartServer, tmp_path: Path) -> None:
    async with running_tools(tmp_path, entry(start_mcp())) as tools:
        await tools.until(*OWN)

        assert "authorization" not in await seen_headers(tools, token="token-of-a-user")


async def test_a_call_with_refused_credentials_did_not_run(start_mcp: StartServer, tmp_path: Path) -> None:
    write_secret(tmp_path, "mcp-token", "token", TOKEN)
    server = start_mcp(token=TOKEN)
    async with running_tools(tmp_path, entry(server, mcp=HEADERS)) as tools:
        await tools.until(*OWN)
        await asyncio.to_thread(expire, server)
        result = await tools.call("add", a=1, b=2)

    assert result.outcome == "unauthorized"
    assert DID_NOT_RUN in text(result)
    assert not any(each.get("tool") == "add" for each in server.recorded())


async def test_a_server_that_repeats_our_credentials_does_not_reveal_them(
    start_mcp: StartServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    write_secret(tmp_path, "mcp-token", "token", TOKEN)
    server = start_mcp(hostile_server, tools=[{"name": "echo_headers", "inputSchema": OBJECT}])
    async with running_tools(tmp_path, entry(server, mcp=HEADERS)) as tools:
        await tools.until("echo_headers")
        result = await tools.call("echo_headers")

    assert json.loads(text(result))["authorization"] == "Bearer ***"
    assert TOKEN not in capsys.readouterr().out


@asynccontextmanager
async def target(folder: Path) -> AsyncIterator[McpServer]:
    """Run a server that no request may reach."""
    server = sdk_server(folder)
    await asyncio.to_thread(server.start)
    try:
        yield server
    finally:
        server.kill()


async def test_a_redirect_is_not_followed(start_mcp: StartServer, tmp_path: Path) -> None:
    async with target(tmp_path) as other:
        server = start_mcp(hostile_server, redirect=other.url)
        same = start_mcp(hostile_server, redirect="/other")
        async with running_tools(tmp_path, entry(server, "away"), entry(same, "same")) as tools:
            assert await tools.names() == []
            assert [state.kind for state in tools.box.states()] == ["redirect", "redirect"]
        assert other.recorded() == []


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "[fd00:ec2::254]", "100.100.100.200"]
)
async def test_link_local_and_metadata_addresses_are_refused(host: str, tmp_path: Path) -> None:
    definition = {"name": "metadata", "mcp": {"url": f"http://{host}/mcp"}}
    async with running_tools(tmp_path, definition) as tools:
        assert await tools.names() == []
        assert tools.box.states()[0].kind == "refused_address"


async def test_a_name_that_resolves_to_a_refused_address_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start_mcp: StartServer
) -> None:
    server = start_mcp()
    loop = asyncio.get_running_loop()
    resolve = loop.getaddrinfo

    async def rebound(host: Any, port: Any, **given: Any) -> Any:
        return await resolve("169.254.169.254" if host == "rebound.test" else host, port, **given)

    monkeypatch.setattr(loop, "getaddrinfo", rebound)
    definition = {"name": "rebound", "mcp": {"url": f"http://rebound.test:{server.port}/mcp"}}
    async with running_tools(tmp_path, definition) as tools:
        assert await tools.names() == []
        assert tools.box.states()[0].kind == "refused_address"


async def test_the_token_endpoint_is_checked_like_a_server(start_mcp: StartServer, tmp_path: Path) -> None:
    write_secret(tmp_path, "oauth", "secret", SECRET)
    server = start_mcp(secret=SECRET)
    fields = grant(server, tokenUrl="http://169.254.169.254/token")
    async with running_tools(tmp_path, entry(server, mcp=fields)) as tools:
        assert await tools.names() == []
        assert tools.box.states()[0].kind == "no_token"


async def test_the_session_of_a_server_is_not_in_the_log(
    start_mcp: StartServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = start_mcp(legacy=True)
    async with running_tools(tmp_path, entry(server)) as tools:
        await tools.until(*OWN)
        session = (await seen_headers(tools))["mcp-session-id"]
        await tools.call("slow", duration=0, label="x")
        await eventually_recorded(server, "finished")

    assert session not in capsys.readouterr().out
