"""Approvals of tool calls in tasks, and who may decide: the real service, a real MCP server, and the stand-in."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.approvals import TEA, approval, calling, calls, start_replica
from stand_in import StandIn
from support.agent import StartService
from support.eventually import eventually
from support.mcp_servers import McpServer

ASKER, APPROVER, OTHER = "asker-key-000000001", "approver-key-0000001", "other-key-0000000001"


def name_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:16]


@pytest.fixture
def agent(server: McpServer, start_service: StartService, stand_in: StandIn, tmp_path: Path) -> Iterator[httpx.Client]:
    with start_replica(server, start_service, stand_in, tmp_path, API_RUNS_TASKS="true") as client:
        yield client


def until(client: httpx.Client, path: str, status: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    def is_there() -> bool:
        found.append(client.get(path).json())
        return bool(found[-1]["status"] == status)

    eventually(is_there, f"the task is {status}")
    return found[-1]


def submit(client: httpx.Client) -> str:
    answer = client.post("/tasks", json={"message": calling([TEA])})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["status_url"])


def test_a_task_waits_without_a_worker_and_goes_on_when_its_call_is_approved(
    agent: httpx.Client, server: McpServer
) -> None:
    path = submit(agent)
    waiting = until(agent, path, "input_required")
    assert waiting["attempts"] == 0
    (waits,) = waiting["approvals"]
    assert (waits["tool"], waits["input"]) == ("slow", TEA["input"])
    eventually(lambda: "agent_approvals_waiting 1.0" in agent.get("/metrics").text, "the metric counts it")

    for _ in range(3):
        answer = agent.post(f"{path}/approvals", json={"id": waits["id"], "approve": True})
        assert answer.status_code == 200, answer.text
    done = until(agent, path, "completed")

    assert calls(server) == ["tea"]
    assert "slept tea" in done["result"]["response"]
    assert [step["is_error"] for step in done["result"]["steps"]] == [False]
    assert (done["attempts"], done["approvals"]) == (1, None)


def test_a_task_goes_on_without_a_decision_in_time(
    server: McpServer, start_service: StartService, stand_in: StandIn, tmp_path: Path
) -> None:
    with start_replica(
        server, start_service, stand_in, tmp_path, API_RUNS_TASKS="true", APPROVAL_TTL_SECONDS="2"
    ) as client:
        done = until(client, submit(client), "completed")

    assert "there was no approval in time" in done["result"]["response"]
    assert calls(server) == []


def test_a_cancelled_task_makes_no_call_that_is_approved_later(agent: httpx.Client, server: McpServer) -> None:
    path = submit(agent)
    (waits,) = until(agent, path, "input_required")["approvals"]

    assert agent.delete(path).json()["error"]["code"] == "cancelled"

    assert agent.post(f"{path}/approvals", json={"id": waits["id"], "approve": True}).status_code == 404
    assert calls(server) == []


def test_a_call_of_a_task_runs_once_though_its_worker_is_killed_after_the_approval(
    server: McpServer, start_service: StartService, stand_in: StandIn, tmp_path: Path
) -> None:
    with start_replica(server, start_service, stand_in, tmp_path, API_RUNS_TASKS="true") as first:
        path = submit(first)
        (waits,) = until(first, path, "input_required")["approvals"]
        stand_in.behave(hold="answer")
        first.post(f"{path}/approvals", json={"id": waits["id"], "approve": True})
        eventually(lambda: calls(server) == ["tea"], "the call is made")
        eventually(lambda: len(stand_in.requests()) == 2, "the model is asked with the result")
    stand_in.behave()
    with start_replica(server, start_service, stand_in, tmp_path, API_RUNS_TASKS="true") as second:
        done = until(second, path, "completed")

    assert calls(server) == ["tea"]
    assert "slept tea" in done["result"]["response"]


def test_only_approvers_decide_and_the_asker_goes_on(
    server: McpServer, start_service: StartService, stand_in: StandIn, tmp_path: Path
) -> None:
    settings = {"API_KEYS": f"{ASKER},{APPROVER},{OTHER}", "APPROVERS": name_of(APPROVER)}
    with start_replica(server, start_service, stand_in, tmp_path, **settings) as client:

        def send(key: str, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
            return client.request(method, path, json=body, headers={"X-API-Key": key})

        asked = send(ASKER, "POST", "/chat", {"message": calling([TEA])}).json()
        path, body = approval(asked)
        assert send(ASKER, "POST", path, body).status_code == 403
        assert send(OTHER, "POST", path, {"id": body["id"]}).status_code == 404
        assert send(ASKER, "POST", path, {"id": body["id"]}).json()["status"] == "input_required"
        assert send(ASKER, "GET", "/approvals").json()["approvals"] == []

        (listed,) = send(APPROVER, "GET", "/approvals").json()["approvals"]
        assert (listed["id"], listed["client"], listed["tool"]) == (body["id"], name_of(ASKER), "slow")
        assert listed["conversation_id"] == asked["conversation_id"]
        decided = send(APPROVER, "POST", path, body).json()
        assert (decided["status"], decided["response"]) == ("decided", "")
        assert calls(server) == []

        rest = send(ASKER, "POST", path, {"id": body["id"]}).json()
        assert "slept tea" in rest["response"]
        assert calls(server) == ["tea"]
        assert send(APPROVER, "GET", "/approvals").json() == {"approvals": [], "next_cursor": None}


def test_an_agent_without_keys_lists_no_approvals(agent: httpx.Client) -> None:
    assert agent.get("/approvals").status_code == 403
