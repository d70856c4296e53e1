"""Which tools need an approval, and that none of their calls runs without one, whichever way it arrives."""

import time
from pathlib import Path

import pytest

from agent_service.agent.tools import Caller, ToolUse
from support.mcp_servers import StartServer
from support.toolbox import Entry, entry, running_tools


async def test_an_entry_decides_for_its_own_tools_when_two_servers_have_the_same(
    start_mcp: StartServer, tmp_path: Path
) -> None:
    one, two = start_mcp(), start_mcp()
    async with running_tools(
        tmp_path, entry(one, name="one", approve=["wh*"]), entry(two, name="two", approve=["one__*", "two__who"])
    ) as tools:
        await tools.until_listed("one__who")
        await tools.until_listed("two__who")
        found = {tool.name: tool.asks for tool in await tools.box.tools()}

    assert [name for name, asks in found.items() if asks] == ["one__who"]


@pytest.mark.parametrize("kind", ["mcp", "code"])
async def test_a_call_that_was_not_approved_does_not_run(start_mcp: StartServer, tmp_path: Path, kind: str) -> None:
    server = start_mcp()
    one: Entry = entry(server, approve=["add"])
    if kind == "code":
        one = {"name": one["name"], "approve": ["add"], "code": {"configMapRef": {"name": "a"}, "port": server.port}}
    async with running_tools(tmp_path, one) as tools:
        await tools.until_listed("add")
        refused = await tools.call("add", a=1, b=2)
        assert (refused.is_error, refused.outcome, server.recorded()) == (True, "not_approved", [])
        assert "did not run: calls of this tool need an approval" in refused.content[0]["text"]

        approved = Caller(deadline=time.time() + 60, approved=True)
        result = await tools.box.call(ToolUse("call-1", "add", {"a": 1, "b": 2}), approved)
        assert (result.is_error, len(server.recorded())) == (False, 1)
