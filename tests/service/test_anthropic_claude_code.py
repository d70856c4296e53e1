"""The `claude` program, as the Claude Agent SDK ships it, with an agent as its model."""

import json
from pathlib import Path
from typing import Any

import pytest

from service.anthropic_agent import CLIENT_KEY, approve, call, calling
from stand_in import StandIn
from support.agent import Service
from support.claude_code import ask_claude
from support.mcp_servers import McpServer


@pytest.fixture(scope="module")
def desk_settings() -> dict[str, str]:
    return {"API_CLIENT_TOOLS": "true"}


def ask(desk: Service, folder: Path, prompt: str, *options: str) -> dict[str, Any]:
    """Ask the program, with a key of the agent."""
    return ask_claude(desk.url, folder, prompt, *options, key=CLIENT_KEY)


def test_the_program_runs_its_tools_for_the_agents_model(
    desk: Service, server: McpServer, stand_in: StandIn, tmp_path: Path
) -> None:
    steps = [
        [call("Write", file_path=str(tmp_path / "note.txt"), content="from the agent")],
        [call("add", a=20, b=22)],
        [call("Bash", command="echo sum-$((40+2))", description="Add")],
    ]
    result = ask(desk, tmp_path, calling(*steps), "--allowedTools", "Write,Bash")

    assert result["is_error"] is False
    assert (tmp_path / "note.txt").read_text(encoding="utf-8") == "from the agent"
    assert [each["tool"] for each in server.recorded()] == ["add"]
    bodies = [json.loads(request["body"]) for request in stand_in.requests() if request["body"]]
    assert "sum-42" in str(bodies[-1]["messages"][-1])
    assert "sum-42" in result["result"], result
    assert all(str(each).count("'cache_control'") <= 4 for each in bodies)


def test_a_call_that_waits_goes_on_after_its_approval_when_the_user_says_so(
    desk: Service, server: McpServer, tmp_path: Path
) -> None:
    asked = ask(desk, tmp_path, calling([call("slow", duration=0, label="tea")]))
    assert "Waiting for the approval of slow of shop" in asked["result"]
    assert "Waiting" in ask(desk, tmp_path, "go on", "--continue")["result"]
    assert server.recorded() == []

    approve(desk, asked["result"])
    assert "slept tea" in ask(desk, tmp_path, "Go on.", "--continue")["result"]
    assert [each["label"] for each in server.recorded() if each["event"] == "finished"] == ["tea"]


def test_the_agents_system_prompt_comes_before_that_of_the_program(
    desk: Service, stand_in: StandIn, tmp_path: Path
) -> None:
    result = ask(desk, tmp_path, "Say hello.")

    assert "Stand-in heard" in result["result"]
    system = stand_in.last()["system"]
    assert system.startswith("Be brief.\n\n")
    assert str(tmp_path) in system
