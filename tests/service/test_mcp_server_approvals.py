"""Tool calls that wait for approvals, for MCP clients: with questions to the user of the client, and without."""

from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import mcp_types as types
import pytest
from mcp.client.context import ClientRequestContext
from mcp.client.session import ElicitationFnT

from service.approvals import COFFEE, PLAIN, TEA, calling, calls, decide, start_replica
from stand_in import StandIn
from support.agent import Service, StartService, running_service
from support.mcp_agent import as_sent, asked, mcp_client, said
from support.mcp_servers import McpServer
from support.redis_server import RedisServer
from support.tool_gateway import REVISIONS, Revision


@pytest.fixture(scope="module")
def agent_process(
    server_process: McpServer,
    stand_in_process: StandIn,
    redis_process: RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("agent")
    with ExitStack() as stack:

        def start(**settings: str) -> Service:
            return stack.enter_context(running_service(folder, **settings))

        settings = {"REDIS_URL": redis_process.url, "API_MCP": "true"}
        started = start_replica(server_process, start, stand_in_process, folder, **settings)
        yield stack.enter_context(started)


@pytest.fixture
def agent(agent_process: httpx.Client, server: McpServer, stand_in: StandIn, redis_server: RedisServer) -> httpx.Client:
    """Return a client of an agent whose tool `slow` needs an approval, shared by many tests, with an empty Redis."""
    return agent_process


def url_of(agent: httpx.Client) -> str:
    return str(agent.base_url).rstrip("/")


class User:
    """A user who answers each question in turn, and what the user was asked."""

    def __init__(self, *answers: types.ElicitResult) -> None:
        self.asked: list[str] = []
        self._answers = list(answers)

    async def answer(
        self, context: ClientRequestContext, params: types.ElicitRequestParams
    ) -> types.ElicitResult | types.ErrorData:
        self.asked.append(params.message)
        return self._answers.pop(0)


APPROVE = types.ElicitResult(action="accept", content={"approve": True})
REJECT = types.ElicitResult(action="accept", content={"approve": False, "reason": "too late in the day"})
DECLINE = types.ElicitResult(action="decline")
DISMISS = types.ElicitResult(action="cancel")


async def ask(
    agent: httpx.Client, message: str, revision: Revision = "auto", elicit: ElicitationFnT | None = None
) -> dict[str, Any]:
    async with mcp_client(url_of(agent), revision, elicit=elicit) as client:
        result = await client.call_tool("ask", {"message": message})
    assert not result.is_error, said(result)
    found: dict[str, Any] = result.structured_content
    return found


@pytest.mark.parametrize("revision", REVISIONS)
async def test_a_client_without_questions_gets_the_calls_that_wait(
    agent: httpx.Client, server: McpServer, revision: Revision
) -> None:
    answer = await ask(agent, calling([PLAIN, TEA]), revision)

    assert answer["status"] == "input_required"
    (waits,) = answer["approvals"]
    assert (waits["tool"], waits["server"], waits["input"]) == ("slow", "shop", TEA["input"])
    assert calls(server) == ["add"]
    assert "slept tea" in decide(agent, answer)["response"]


async def test_the_user_of_the_client_approves(agent: httpx.Client, server: McpServer, stand_in: StandIn) -> None:
    user = User(APPROVE)
    answer = await ask(agent, calling([PLAIN, TEA]), elicit=user.answer)

    assert "status" not in answer
    assert answer["response"].startswith("Calling ")
    assert "slept tea" in answer["response"]
    (question,) = user.asked
    assert "slow" in question
    assert '"label": "tea"' in question
    assert calls(server) == ["add", "tea"]


@pytest.mark.parametrize(("decision", "reason"), [(REJECT, "too late in the day"), (DECLINE, "")])
async def test_the_user_of_the_client_rejects(
    agent: httpx.Client, server: McpServer, stand_in: StandIn, decision: types.ElicitResult, reason: str
) -> None:
    answer = await ask(agent, calling([TEA]), elicit=User(decision).answer)

    assert "status" not in answer
    assert calls(server) == []
    assert reason in stand_in.last()["body"]


async def test_each_call_is_a_question_and_later_steps_ask_again(agent: httpx.Client, server: McpServer) -> None:
    user = User(APPROVE, REJECT, APPROVE)
    answer = await ask(agent, calling([TEA, COFFEE], [TEA]), elicit=user.answer)

    assert "status" not in answer
    assert len(user.asked) == 3
    assert calls(server) == ["tea", "tea"]


async def test_a_dismissed_question_leaves_the_call_waiting(agent: httpx.Client, server: McpServer) -> None:
    user = User(DISMISS)
    answer = await ask(agent, calling([TEA]), elicit=user.answer)

    assert answer["status"] == "input_required"
    assert len(user.asked) == 1
    assert calls(server) == []
    assert "slept tea" in decide(agent, answer)["response"]


async def test_without_the_right_to_decide_the_user_is_not_asked(
    start_service: StartService, server: McpServer, stand_in: StandIn, tmp_path: Path
) -> None:
    mine, approver = "client-key-0000000000000001", "client-key-0000000000000002"
    settings = {
        "API_MCP": "true",
        "API_KEYS": f"{mine},{approver}",
        "APPROVERS": sha256(approver.encode()).hexdigest()[:16],
    }
    with start_replica(server, start_service, stand_in, tmp_path, **settings) as agent:
        user = User(APPROVE)
        async with mcp_client(url_of(agent), headers={"Authorization": f"Bearer {mine}"}, elicit=user.answer) as client:
            result = await client.call_tool("ask", {"message": calling([TEA])})

    assert result.structured_content["status"] == "input_required"
    assert user.asked == []
    assert calls(server) == []


@pytest.mark.parametrize(
    "given",
    [
        {"requestState": "x"},
        {"requestState": "{}", "inputResponses": {}},
        {"inputResponses": {"01890000-0000-7000-8000-000000000000.1": {"action": "accept"}}},
        {
            "requestState": '{"conversation_id":"mine","text":""}',
            "inputResponses": {"01890000-0000-7000-8000-000000000000.1": {"action": "accept"}},
        },
    ],
)
def test_answers_to_no_question_are_an_error(
    agent: httpx.Client, server: McpServer, stand_in: StandIn, given: dict[str, Any]
) -> None:
    call = asked("hello")
    call["params"] |= given
    body, headers = as_sent("auto", call)
    answer = agent.post("/mcp", json=body, headers=headers)

    assert answer.status_code == 200
    assert answer.json()["result"]["isError"] is True
    assert stand_in.requests() == []
    assert calls(server) == []
