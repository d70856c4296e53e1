"""Approvals of the tool calls of a runtime, which calls them with the official MCP client through the gateway."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.a2a_agent import card, running_agent
from support.agent import Service, StartService
from support.eventually import eventually
from support.mcp_servers import McpServer
from support.runtime import Asked, Runtime, json_answer, running_runtime
from support.runtime_calls import call_tool
from testbed.ports import free_port


@pytest.fixture
def port() -> int:
    return free_port()


class Caller:
    """A runtime that makes each of the `calls`, given as labels, and then repeats what the tools and the user said."""

    def __init__(self, port: int) -> None:
        self.calls: list[str] = []
        self._port = port

    def __call__(self, asked: Asked) -> bytes:
        labels, self.calls = self.calls, []
        said = [asyncio.run(self.call(label, asked.headers)) for label in labels]
        last = str(asked.body["messages"][-1]["content"])
        return json_answer({"response": " ".join([*said, f"You said: {last}"])})

    async def call(self, label: str, headers: dict[str, str]) -> str:
        """Call the tool `slow`, which needs an approval, and return what the result says."""
        given = {"duration": 0, "label": label}
        return await call_tool(f"http://127.0.0.1:{self._port}/mcp", "slow", given, headers)


@pytest.fixture
def runtime(port: int) -> Iterator[Runtime]:
    with running_runtime(Caller(port)) as started:
        yield started


StartAgent = Callable[..., Service]


@pytest.fixture
def start_agent(start_service: StartService, server: McpServer, port: int, tmp_path: Path) -> StartAgent:
    """Return a function that starts an agent with tools, of which `slow` needs an approval, for a runtime."""
    file = tmp_path / "tools.json"
    tools = [{"name": "shop", "mcp": {"url": server.url}, "approve": ["slow"]}]
    file.write_text(json.dumps({"tools": tools}), encoding="utf-8")

    def start(**settings: str) -> Service:
        service = start_service(
            MODEL_PROVIDER="echo",
            GATEWAY_PORT=str(port),
            TOOLS_FILE=str(file),
            RATE_LIMIT_REQUESTS="0",
            API_RUNS_TASKS="true",
            **settings,
        )
        eventually(lambda: service.metric('agent_tool_server_up{server="shop"}') == 1, "the agent has its tools")
        return service

    return start


@pytest.fixture
def agent(start_agent: StartAgent, runtime: Runtime) -> Service:
    return start_agent(RUNTIME_URL=runtime.url)


def wants(runtime: Runtime, *labels: str) -> None:
    """Make the runtime call the tool once for each label in its next answer."""
    assert isinstance(runtime.answer, Caller)
    runtime.answer.calls = list(labels)


def calls(server: McpServer) -> list[str]:
    return [each["label"] for each in server.recorded() if each.get("event") == "finished"]


def decide(agent: Service, asked: dict[str, Any], *, approve: bool = True, **more: Any) -> dict[str, Any]:
    body = {"id": asked["approvals"][0]["id"], "approve": approve, **more}
    answer = agent.post(f"/chat/{asked['conversation_id']}/approvals", **body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_an_approved_call_is_made_once_and_the_runtime_gets_its_result_as_the_next_message(
    agent: Service, runtime: Runtime, server: McpServer
) -> None:
    wants(runtime, "tea", "tea")
    asked = agent.post("/chat", message="Order tea.").json()

    assert asked["status"] == "input_required"
    (waits,) = asked["approvals"]
    assert (waits["tool"], waits["server"], waits["input"]) == ("slow", "shop", {"duration": 0, "label": "tea"})
    assert "It waits for an approval" in asked["response"]
    assert calls(server) == []

    answer = decide(agent, asked)
    assert calls(server) == ["tea"]
    assert "slept tea" in answer["response"]
    assert [step["name"] for step in answer["steps"]] == ["slow"]
    sent = runtime.asked[-1].body["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "user"]
    assert sent[0]["content"] == "Order tea."

    agent.post("/chat", message="And?", conversation_id=asked["conversation_id"])
    kept = runtime.asked[-1].body["messages"]
    assert [message["role"] for message in kept] == ["user", "assistant", "user"]
    assert kept[1]["content"] == asked["response"] + "\n\n" + answer["response"]
    assert decide_again(agent, asked) == 409
    assert calls(server) == ["tea"]


def decide_again(agent: Service, asked: dict[str, Any]) -> int:
    body = {"id": asked["approvals"][0]["id"], "approve": True}
    status: int = agent.post(f"/chat/{asked['conversation_id']}/approvals", **body).status_code
    return status


def test_the_runtime_learns_that_a_call_was_rejected_and_why(
    agent: Service, runtime: Runtime, server: McpServer
) -> None:
    wants(runtime, "tea")
    asked = agent.post("/chat", message="Order tea.").json()
    answer = decide(agent, asked, approve=False, reason="Too expensive.")

    assert "Reason: Too expensive." in answer["response"]
    assert "status" not in answer
    assert calls(server) == []


def test_a_turn_that_went_on_may_wait_again_and_the_runtime_gets_all_of_it(
    agent: Service, runtime: Runtime, server: McpServer
) -> None:
    wants(runtime, "tea")
    asked = agent.post("/chat", message="Order tea.").json()
    wants(runtime, "coffee")
    again = decide(agent, asked)
    assert again["status"] == "input_required"
    answer = decide(agent, again)

    assert calls(server) == ["tea", "coffee"]
    assert "slept coffee" in answer["response"]
    sent = runtime.asked[-1].body["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "user", "assistant", "user"]
    assert "slept tea" in sent[2]["content"]


def test_a_stream_ends_with_the_calls_that_wait(agent: Service, runtime: Runtime) -> None:
    wants(runtime, "tea")
    answer = agent.post("/chat/stream", message="Order tea.")
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]

    assert events[-1]["type"] == "input_required"
    assert [each["tool"] for each in events[-1]["approvals"]] == ["slow"]


def test_a_task_waits_and_goes_on(agent: Service, runtime: Runtime, server: McpServer) -> None:
    wants(runtime, "tea")
    task = agent.post("/tasks", message="Order tea.").json()
    path = task["status_url"]
    eventually(lambda: agent.get(path).json()["status"] == "input_required", "the task waits")
    waits = agent.get(path).json()["approvals"]
    assert agent.post(f"{path}/approvals", id=waits[0]["id"], approve=True).status_code == 200
    eventually(lambda: agent.get(path).json()["status"] == "completed", "the task is completed")

    assert "slept tea" in agent.get(path).json()["result"]["response"]
    assert calls(server) == ["tea"]


def test_a_call_that_belongs_to_no_turn_is_refused(agent: Service, runtime: Runtime, server: McpServer) -> None:
    assert isinstance(runtime.answer, Caller)
    assert "need an approval" in asyncio.run(runtime.answer.call("tea", {}))
    assert calls(server) == []


def test_an_a2a_agent_gets_the_result_as_the_next_message_of_its_context(
    start_agent: StartAgent, server: McpServer, port: int
) -> None:
    with running_agent(card()) as a2a:
        agent = start_agent(RUNTIME_URL=a2a.url, RUNTIME_PROTOCOL="a2a")
        asked = agent.post("/chat", message=f"call http://127.0.0.1:{port}/mcp tea").json()
        assert asked["status"] == "input_required", asked
        assert "It waits for an approval" in asked["response"]
        answer = decide(agent, asked)

    assert calls(server) == ["tea"]
    assert "slept tea" in answer["response"]
    (earlier,) = a2a.agent.contexts.values()
    assert [text.split(" ")[0] for text in earlier] == ["call", "The"]
