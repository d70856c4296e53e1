"""The agent as an MCP tool: the official client against real processes, in the stateless revision and with sessions."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp.shared.exceptions import MCPError

from service.approvals import PLAIN
from stand_in import StandIn, asking
from support.agent import KEY, Service, StartService, running_service
from support.eventually import eventually_async
from support.mcp_agent import INITIALIZE, LIST, answer_in, as_sent, asked, mcp_client, said
from support.mcp_servers import McpServer
from support.redis_server import RedisServer
from support.tool_gateway import REVISIONS, Revision

CLIENT_KEY, OTHER_KEY = "client-key-0000000000000001", "client-key-0000000000000002"
BEARER = {"Authorization": f"Bearer {CLIENT_KEY}"}
LARGEST_BYTES, MOST_TOKENS = 100_000, 10_000

Reported = list[tuple[float, str | None]]


@dataclass(frozen=True)
class Agents:
    """Two replicas of an agent."""

    one: Service
    two: Service


@pytest.fixture(scope="module")
def agent_processes(
    server_process: McpServer,
    stand_in_process: StandIn,
    redis_process: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Agents]:
    folder = tmp_path_factory.mktemp("agents")
    tools = folder / "tools.json"
    tools.write_text(json.dumps({"tools": [{"name": "shop", "mcp": {"url": server_process.url}}]}), encoding="utf-8")
    settings = {
        "API_MCP": "true",
        "AGENT_NAME": "clerk",
        "AGENT_DESCRIPTION": "It knows the shop's stock.",
        "API_KEYS": f"{CLIENT_KEY},{OTHER_KEY}",
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": stand_in_process.url,
        "MODEL_MAX_RETRIES": "0",
        "REDIS_URL": redis_process.url,
        "TOOLS_FILE": str(tools),
        "RATE_LIMIT_REQUESTS": "0",
        "API_MAX_BODY_BYTES": str(LARGEST_BYTES),
        "API_MAX_INPUT_TOKENS": str(MOST_TOKENS),
        "STREAM_HEARTBEAT_SECONDS": "0.2",
    }
    with ExitStack() as stack:

        def start(name: str) -> Service:
            (folder / name).mkdir()
            return stack.enter_context(running_service(folder / name, **settings))

        yield Agents(start("one"), start("two"))


@pytest.fixture
def agents(agent_processes: Agents, stand_in: StandIn, server: McpServer, redis_server: RedisServer) -> Agents:
    """Return two replicas, shared by many tests, with an empty Redis."""
    assert stand_in.requests() == []
    return agent_processes


@pytest.fixture
def agent(agents: Agents) -> Service:
    return agents.one


async def state_of_last(stand_in: StandIn, state: str) -> None:
    """Wait until the newest request to the model has a state."""

    async def found() -> bool:
        requests = stand_in.requests()
        return bool(requests) and requests[-1]["state"] == state

    await eventually_async(found, f"the model's request is {state}")


@pytest.mark.parametrize("revision", REVISIONS)
class TestBothRevisions:
    async def test_the_agent_is_one_tool(self, agent: Service, revision: Revision) -> None:
        async with mcp_client(agent.url, revision, headers=BEARER) as client:
            (tool,) = (await client.list_tools()).tools
            assert client.server_info is not None
            assert client.server_info.name == "clerk"

        assert tool.name == "ask"
        assert "clerk" in str(tool.description)
        assert "It knows the shop's stock." in str(tool.description)
        assert tool.input_schema["required"] == ["message"]
        assert set(tool.input_schema["properties"]) == {"message", "conversation_id"}
        assert set(tool.output_schema or {}) >= {"type", "properties", "required"}

    async def test_an_answer_is_structured_and_text(self, agent: Service, revision: Revision) -> None:
        before = agent.metric('agent_api_requests_total{api="mcp",outcome="ok"}')
        async with mcp_client(agent.url, revision, headers=BEARER) as client:
            result = await client.call_tool("ask", {"message": "Grüße, 世界 🌍"})

        assert not result.is_error
        assert "Grüße, 世界 🌍" in result.structured_content["response"]
        assert set(result.structured_content) == {"response", "conversation_id"}
        assert json.loads(said(result)) == result.structured_content
        assert "世界 🌍" in said(result)
        assert agent.metric('agent_api_requests_total{api="mcp",outcome="ok"}') == before + 1

    async def test_a_conversation_goes_on_at_another_replica(
        self, agents: Agents, revision: Revision, stand_in: StandIn
    ) -> None:
        async with mcp_client(agents.one.url, revision, headers=BEARER) as client:
            first = await client.call_tool("ask", {"message": "first"})
        going_on = {"message": "second", "conversation_id": first.structured_content["conversation_id"]}
        async with mcp_client(agents.two.url, revision, headers=BEARER) as client:
            second = await client.call_tool("ask", going_on)

        assert second.structured_content["conversation_id"] == going_on["conversation_id"]
        messages = json.loads(stand_in.last()["body"])["messages"]
        assert [message["role"] for message in messages] == ["user", "assistant", "user"]

    async def test_another_client_does_not_get_the_conversation(
        self, agent: Service, revision: Revision, stand_in: StandIn
    ) -> None:
        async with mcp_client(agent.url, revision, headers=BEARER) as client:
            first = await client.call_tool("ask", {"message": "secret"})
        async with mcp_client(agent.url, revision, headers={"X-API-Key": OTHER_KEY}) as client:
            going_on = {"message": "what?", "conversation_id": first.structured_content["conversation_id"]}
            second = await client.call_tool("ask", going_on)

        assert second.structured_content["conversation_id"] != going_on["conversation_id"]
        assert len(json.loads(stand_in.last()["body"])["messages"]) == 1

    async def test_steps_are_in_the_result_and_in_the_progress(
        self, agent: Service, revision: Revision, server: McpServer
    ) -> None:
        reported: Reported = []

        async def report(progress: float, total: float | None, message: str | None) -> None:
            reported.append((progress, message))

        async with mcp_client(agent.url, revision, headers=BEARER) as client:
            message = asking("sum", calls=[[PLAIN]])
            result = await client.call_tool("ask", {"message": message}, progress_callback=report)

        (step,) = result.structured_content["steps"]
        assert (step["name"], step["input"], step["content"], step["is_error"]) == ("add", PLAIN["input"], "3", False)
        assert "Calling the tool add" in [message for _, message in reported]
        assert [progress for progress, _ in reported] == sorted({progress for progress, _ in reported})

    async def test_the_text_so_far_is_reported_while_the_answer_arrives(
        self, agent: Service, revision: Revision
    ) -> None:
        reported: Reported = []

        async def report(progress: float, total: float | None, message: str | None) -> None:
            reported.append((progress, message))

        async with mcp_client(agent.url, revision, headers=BEARER) as client:
            message = asking("count", words=60, slow=0.05)
            result = await client.call_tool("ask", {"message": message}, progress_callback=report)

        response = result.structured_content["response"]
        assert len(reported) > 1
        assert all(text and text in response for _, text in reported)
        assert len({text for _, text in reported}) == len(reported)

    async def test_a_cancelled_call_ends_the_turn_and_the_client_goes_on(
        self, agent: Service, revision: Revision, stand_in: StandIn
    ) -> None:
        async with mcp_client(agent.url, revision, headers=BEARER) as client:
            call = asyncio.create_task(client.call_tool("ask", {"message": asking("wait", hold="never")}))
            await state_of_last(stand_in, "running")
            call.cancel()
            await state_of_last(stand_in, "disconnected")
            assert not (await client.call_tool("ask", {"message": "again"})).is_error

    async def test_a_disconnect_ends_the_turn(self, agent: Service, revision: Revision, stand_in: StandIn) -> None:
        body, headers = as_sent(revision, asked(asking("wait", hold="never")))
        async with httpx.AsyncClient(base_url=agent.url, headers={**BEARER, **headers}, timeout=60) as http:
            call = asyncio.create_task(http.post("/mcp", json=body))
            await state_of_last(stand_in, "running")
            call.cancel()
            await asyncio.wait([call])
        await state_of_last(stand_in, "disconnected")

        async def is_idle() -> bool:
            return agent.metric("agent_http_requests_in_flight") == 0

        await eventually_async(is_idle, "no request is in flight")

    @pytest.mark.parametrize(
        ("behaviour", "sentence"),
        [
            ({"fault": 529}, "The model API is overloaded; try again later."),
            ({"fault": 429, "retry_after": 9}, "Seconds to wait: 9."),
            ({"too_long": True}, "too long for the model"),
            ({"words": 3, "error": "overloaded_error", "after": 2}, "overloaded"),
        ],
    )
    async def test_an_error_of_the_model_is_one_of_the_tool(
        self, agent: Service, revision: Revision, behaviour: dict[str, Any], sentence: str
    ) -> None:
        async with mcp_client(agent.url, revision, headers=BEARER) as client:
            result = await client.call_tool("ask", {"message": asking("fail", **behaviour)})

        assert result.is_error
        assert sentence in said(result)
        assert result.structured_content is None

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            ({}, "message: Field required"),
            ({"message": " \n"}, "must contain more than white space"),
            ({"message": "a\0b"}, "must not contain NUL characters"),
            ({"message": 5}, "valid string"),
            ({"message": "hello", "model": "gpt"}, "model: Extra inputs are not permitted"),
            ({"message": "hello", "conversation_id": "x" * 129}, "at most 128 characters"),
            ({"message": "x" * (4 * MOST_TOKENS + 1)}, f"takes at most {MOST_TOKENS}"),
        ],
    )
    async def test_invalid_arguments_are_errors_of_the_tool(
        self, agent: Service, revision: Revision, stand_in: StandIn, arguments: dict[str, Any], sentence: str
    ) -> None:
        async with mcp_client(agent.url, revision, headers=BEARER) as client:
            result = await client.call_tool("ask", arguments)

        assert result.is_error
        assert sentence in said(result)
        assert stand_in.requests() == []

    async def test_an_unknown_tool_is_an_error_of_the_protocol(self, agent: Service, revision: Revision) -> None:
        async with mcp_client(agent.url, revision, headers=BEARER) as client:
            with pytest.raises(MCPError, match="Unknown tool: shell"):
                await client.call_tool("shell", {"command": "id"})

    def test_without_a_key_nothing_is_answered(self, agent: Service, revision: Revision) -> None:
        for key in ({}, {"Authorization": "Bearer no-key-of-this-agent"}):
            body, headers = as_sent(revision, LIST)
            answer = httpx.post(f"{agent.url}/mcp", json=body, headers={**headers, **key})
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert "client keys" in answer.json()["error"]["message"]
            assert answer.json()["jsonrpc"] == "2.0"

    def test_a_body_that_is_too_large_is_refused(self, agent: Service, revision: Revision) -> None:
        body, headers = as_sent(revision, asked("x" * LARGEST_BYTES))
        answer = httpx.post(f"{agent.url}/mcp", json=body, headers={**headers, **BEARER})

        assert answer.status_code == 413
        assert str(LARGEST_BYTES) in answer.json()["error"]["message"]

    def test_half_a_surrogate_pair_is_refused_or_an_error_of_the_tool(self, agent: Service, revision: Revision) -> None:
        body, headers = as_sent(revision, asked("half \ud800 pair"))
        content = json.dumps(body).encode("ascii")
        headers = {**headers, **BEARER, "Content-Type": "application/json"}
        answer = httpx.post(f"{agent.url}/mcp", content=content, headers=headers)

        found = answer_in(answer.text)
        assert "error" in found or found["result"]["isError"]
        assert answer.status_code < 500

    async def test_comments_keep_a_silent_stream_alive(
        self, agent: Service, revision: Revision, stand_in: StandIn
    ) -> None:
        body, headers = as_sent(revision, asked(asking("wait", words=3, hold="later", after=2)))
        body["params"].setdefault("_meta", {})["progressToken"] = "a"
        comments, rest = 0, []
        async with (
            httpx.AsyncClient(base_url=agent.url, headers={**BEARER, **headers}, timeout=60) as http,
            http.stream("POST", "/mcp", json=body) as answer,
        ):
            async for line in answer.aiter_lines():
                comments += line == ": waiting for the model"
                if comments == 3:
                    stand_in.release("later")
                rest.append(line)

        assert comments >= 3
        assert answer_in("\n".join(rest))["result"]["isError"] is False


class TestSessions:
    def start(self, agent: Service) -> dict[str, str]:
        """Return the headers of a new session."""
        _, headers = as_sent("legacy", INITIALIZE)
        answer = httpx.post(f"{agent.url}/mcp", json=INITIALIZE, headers={**headers, **BEARER})
        assert answer.status_code == 200
        return {**headers, **BEARER, "Mcp-Session-Id": answer.headers["mcp-session-id"]}

    @pytest.mark.parametrize("where", ["one", "two"])
    async def test_a_cancellation_reaches_its_call_at_any_replica(
        self, agents: Agents, stand_in: StandIn, where: str
    ) -> None:
        headers = self.start(agents.one)
        cancellation = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
        async with httpx.AsyncClient(headers=headers, timeout=60) as http:
            body = asked(asking("wait", hold="never"))
            call = asyncio.create_task(http.post(f"{agents.one.url}/mcp", json=body))
            await state_of_last(stand_in, "running")
            answer = await http.post(f"{getattr(agents, where).url}/mcp", json=cancellation)
            assert answer.status_code == 202
            await state_of_last(stand_in, "disconnected")
            assert answer_in((await call).text)["error"]["message"] == "Request cancelled"

    async def test_a_cancellation_of_another_client_or_request_changes_nothing(
        self, agent: Service, stand_in: StandIn
    ) -> None:
        headers = self.start(agent)
        async with httpx.AsyncClient(headers=headers, base_url=agent.url, timeout=60) as http:
            call = asyncio.create_task(http.post("/mcp", json=asked(asking("wait", hold="soon"))))
            await state_of_last(stand_in, "running")
            for identifier, key in (("7", CLIENT_KEY), (8, CLIENT_KEY), (None, CLIENT_KEY), (7, OTHER_KEY)):
                cancellation = {
                    "jsonrpc": "2.0",
                    "method": "notifications/cancelled",
                    "params": {"requestId": identifier},
                }
                await http.post("/mcp", json=cancellation, headers={"Authorization": f"Bearer {key}"})
            stand_in.release("soon")
            assert answer_in((await call).text)["result"]["isError"] is False

    def test_a_request_without_a_handshake_is_answered(self, agent: Service) -> None:
        body, headers = as_sent("legacy", LIST)
        answer = httpx.post(f"{agent.url}/mcp", json=body, headers={**headers, **BEARER})

        assert answer_in(answer.text)["result"]["tools"][0]["name"] == "ask"


class TestRequests:
    def test_there_is_no_stream_of_notifications(self, agent: Service) -> None:
        answer = httpx.get(f"{agent.url}/mcp", headers={**BEARER, "Accept": "text/event-stream"})

        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")

    @pytest.mark.parametrize(
        ("body", "status"),
        [(b"{", 400), (b"[]", 400), (b'"notifications/cancelled"', 400), (b'["initialize"]', 400), (b"\xff", 400)],
    )
    @pytest.mark.parametrize("revision", REVISIONS)
    def test_what_is_no_request_is_refused(self, agent: Service, body: bytes, status: int, revision: Revision) -> None:
        _, headers = as_sent(revision, LIST)
        headers = {**headers, **BEARER, "Content-Type": "application/json"}
        answer = httpx.post(f"{agent.url}/mcp", content=body, headers=headers)

        assert answer.status_code == status
        assert answer.json()["error"]["message"]

    @pytest.mark.parametrize(
        ("origin", "status"),
        [
            ("https://evil.example", 403),
            ("null", 403),
            ("https://evil.example:8080", 403),
            ("http://127.0.0.1:1", 200),
        ],
    )
    def test_a_page_of_another_site_is_refused(self, agent: Service, origin: str, status: int) -> None:
        body, headers = as_sent("auto", LIST)
        answer = httpx.post(f"{agent.url}/mcp", json=body, headers={**headers, **BEARER, "Origin": origin})

        assert answer.status_code == status
        assert ("error" in answer.json()) == (status == 403)

    def test_requests_are_counted_by_their_route(self, agent: Service) -> None:
        line = 'agent_http_requests_total{method="POST",route="/mcp",status="200"}'
        before = agent.metric(line)
        body, headers = as_sent("auto", LIST)
        httpx.post(f"{agent.url}/mcp", json=body, headers={**headers, **BEARER})

        assert agent.metric(line) == before + 1


def test_no_error_or_secret_is_in_the_log(agent: Service) -> None:
    assert "Traceback" not in agent.log()
    assert '"level":"error"' not in agent.log()
    assert CLIENT_KEY not in agent.log()


def test_without_the_setting_there_is_no_such_path_and_the_sdk_is_not_imported(
    start_service: StartService, tmp_path: Path
) -> None:
    service = start_service(MODEL_PROVIDER="echo")
    body, headers = as_sent("auto", LIST)
    assert httpx.post(f"{service.url}/mcp", json=body, headers=headers).status_code == 404

    program = (
        "import sys; from agent_service.app import create_app; from agent_service.config.loading import load\n"
        "create_app(load(model_provider='echo', redis_url='redis://127.0.0.1:1'))\n"
        "sys.exit(any(name == 'mcp' or name.startswith('agent_service.compat.mcp') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=False).returncode == 0
