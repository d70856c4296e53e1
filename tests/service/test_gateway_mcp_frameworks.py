"""Runtimes that call a real MCP server's tool through the gateway of the real service, from a client's question on."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support.agent import KEY, Service, StartService, running_service
from support.frameworks import WITH_TOOLS, running_framework
from support.gateway import HEAD, STOP, Asked, plain, running_gateway, sse, text
from support.redis_server import RedisServer
from support.sums import running_sums_server, tools_file_of
from testbed.paths import REPOSITORY
from testbed.ports import free_port

ANSWER_SECONDS = 90
_CALLS = 2


def model(asked: Asked) -> bytes:
    """Answer as a model that adds 20 and 22 with a tool, if it has one, until it has two results, which it repeats."""
    blocks = [block for message in asked.body["messages"] for block in message["content"] if isinstance(block, dict)]
    results = [block["content"] for block in blocks if block.get("type") == "tool_result"]
    names = [tool["name"] for tool in asked.body.get("tools", ()) if tool["name"].endswith("add")]
    if len(results) == _CALLS or not names:
        content: dict[str, Any] = {"type": "text", "text": f"The tool said {json.dumps(results)}."}
    else:
        content = {"type": "tool_use", "id": f"toolu_{len(results)}", "name": names[0], "input": {"a": 20, "b": 22}}
    return _streamed(content) if asked.body.get("stream") else _whole(content)


def _whole(content: dict[str, Any]) -> bytes:
    usage = {"input_tokens": 3, "output_tokens": 2}
    stop = "tool_use" if content["type"] == "tool_use" else "end_turn"
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5-5", "usage": usage}
    body = {**message, "content": [content], "stop_reason": stop, "stop_sequence": None}
    return plain("200 OK", "application/json", json.dumps(body).encode())


def _streamed(content: dict[str, Any]) -> bytes:
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5-5", "content": []}
    usage = {"input_tokens": 3, "output_tokens": 1}
    start = {"type": "message_start", "message": {**head, "usage": usage, "stop_reason": None, "stop_sequence": None}}
    if content["type"] == "tool_use":
        block, stop = {**content, "input": {}}, "tool_use"
        given = {"type": "input_json_delta", "partial_json": json.dumps(content["input"])}
        delta: dict[str, Any] = {"type": "content_block_delta", "index": 0, "delta": given}
    else:
        block, stop, delta = {"type": "text", "text": ""}, "end_turn", text(content["text"])
    begin = {"type": "content_block_start", "index": 0, "content_block": block}
    reason = {"stop_reason": stop, "stop_sequence": None}
    end = {"type": "message_delta", "delta": reason, "usage": {"input_tokens": 3, "output_tokens": 2}}
    return HEAD + sse(start, begin, delta, {"type": "content_block_stop", "index": 0}, end, STOP)


@pytest.fixture(scope="module")
def sums() -> Iterator[str]:
    with running_sums_server() as url:
        yield url


@pytest.fixture
def tools_file(tmp_path: Path, sums: str) -> Path:
    return tools_file_of(tmp_path, sums)


StartAgent = Callable[[str], Service]


@pytest.fixture
def start_agent(tmp_path: Path, redis_server: RedisServer, tools_file: Path) -> Iterator[StartAgent]:
    """Yield a function that starts a service whose runtime is the framework's agent with tools."""
    with ExitStack() as stack:

        def start(name: str) -> Service:
            port = free_port()
            framework = running_framework(name, gateway_port=port, folder=tmp_path)
            return stack.enter_context(
                running_service(
                    tmp_path,
                    ANTHROPIC_API_KEY=KEY,
                    ANTHROPIC_BASE_URL=stack.enter_context(running_gateway(model)).url,
                    REDIS_URL=redis_server.url,
                    RUNTIME_URL=stack.enter_context(framework),
                    GATEWAY_PORT=str(port),
                    GATEWAY_MODELS="claude-haiku-4-5",
                    TOOLS_FILE=str(tools_file),
                    MAX_TOOL_CALLS="1",
                    REQUEST_TIMEOUT_SECONDS=str(ANSWER_SECONDS),
                )
            )

        yield start


@pytest.mark.parametrize("name", WITH_TOOLS)
def test_an_agent_of_the_framework_calls_a_tool(start_agent: StartAgent, name: str) -> None:
    service = start_agent(name)
    for _ in range(2):
        answer = service.post("/chat", message="How much is 20 and 22?").json()
        assert "The tool said" in answer["response"], answer
        assert "42" in answer["response"], answer
        # The second call of each turn, to which the calls are attributed by the headers that the agent passes on.
        assert "has reached its limit of tool calls (1)" in answer["response"], answer

    assert service.metric('agent_tool_calls_total{outcome="ok",server="sums",tool="add"}') == 2
    assert service.metric('agent_gateway_requests_total{route="/mcp",status="499"}') == 0


def test_the_documented_python_file_calls_a_tool(start_service: StartService, tmp_path: Path, tools_file: Path) -> None:
    file = tmp_path / "my_agent.py"
    page = (REPOSITORY / "docs" / "reference" / "python-file.md").read_text(encoding="utf-8")
    (sample,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "turn.mcp_url" in block]
    file.write_text(sample, encoding="utf-8")
    service = start_service(options=["--runtime", str(file)], MODEL_PROVIDER="echo", TOOLS_FILE=str(tools_file))

    assert service.post("/chat", message="Add.").json()["response"] == "The tool said 42."
    assert service.metric('agent_tool_calls_total{outcome="ok",server="sums",tool="add"}') == 1
