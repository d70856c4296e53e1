"""A2A with client keys, limits and approvals: who sees which task, and who decides."""

import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from a2a.client import Client
from a2a.types.a2a_pb2 import CancelTaskRequest, GetTaskRequest, ListTasksRequest, SubscribeToTaskRequest, TaskState
from a2a.utils.errors import A2AError, InvalidParamsError, TaskNotFoundError, UnsupportedOperationError

from service.approvals import TEA, calling, calls
from stand_in import StandIn
from support.a2a_client import REST, RPC, Received, answer_of, collect, connected, data, ended, request, values
from support.agent import Service, running_service
from support.eventually import eventually
from support.mcp_servers import McpServer
from support.redis_server import RedisServer

ASKER, OTHER = "asker-key-000000001", "other-key-0000000001"


@pytest.fixture(scope="module")
def keyed_process(
    shared_settings: dict[str, str], server_process: McpServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("keyed")
    file = folder / "tools.json"
    tools = [{"name": "shop", "mcp": {"url": server_process.url}, "approve": ["sl*"]}]
    file.write_text(json.dumps({"tools": tools}), encoding="utf-8")
    settings = {"API_KEYS": f"{ASKER},{OTHER}", "TOOLS_FILE": str(file), "API_RUNS_TASKS": "true"}
    with running_service(folder, **shared_settings, **settings, AGENT_NAME="clerk") as running:
        yield running


@pytest.fixture
def keyed(keyed_process: Service, stand_in: StandIn, server: McpServer) -> Service:
    assert stand_in.requests() == []
    return keyed_process


@pytest.fixture(params=[RPC, REST])
async def clients(request: pytest.FixtureRequest, keyed: Service) -> AsyncIterator[tuple[Client, Client]]:
    """Yield the clients of two keys."""
    async with AsyncExitStack() as stack:
        asker, other = [
            await stack.enter_async_context(connected(keyed.url, request.param, key=key)) for key in (ASKER, OTHER)
        ]
        yield asker, other


async def test_the_card_is_open_and_has_the_tools_as_skills(keyed: Service) -> None:
    async with httpx.AsyncClient(base_url=keyed.url) as http:
        card = (await http.get("/.well-known/agent-card.json")).json()

    assert card["name"] == "clerk"
    assert {"chat", "add", "slow"} <= {skill["id"] for skill in card["skills"]}
    assert set(card["securitySchemes"]) == {"bearer", "header"}


@pytest.mark.parametrize("path", ["/", "/a2a", "/a2a/v1/message:send", "/a2a/v1/tasks"])
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong-key-000000000"}])
async def test_a_request_without_a_valid_key_is_refused(keyed: Service, path: str, headers: dict[str, str]) -> None:
    async with httpx.AsyncClient(base_url=keyed.url, headers=headers) as http:
        answer = await http.post(path, json={})

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "key" in answer.json()["error"]["message"]


async def test_either_header_has_the_key(keyed: Service) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "ListTasks", "params": {}}
    async with httpx.AsyncClient(base_url=keyed.url, headers={"A2A-Version": "1.0", "X-API-Key": ASKER}) as http:
        assert "result" in (await http.post("/a2a", json=call)).json()


async def test_a_client_lists_its_own_tasks_page_by_page(clients: tuple[Client, Client]) -> None:
    asker, other = clients
    sent = [(await collect(asker.send_message(request(f"Message {number}")))).task for number in range(3)]

    found: list[str] = []
    token = ""
    while len(found) < 3:
        page = await asker.list_tasks(ListTasksRequest(page_size=2, page_token=token))
        found += [task.id for task in page.tasks]
        token = page.next_page_token
        assert page.total_size >= 3
    assert found[:3] == [task.id for task in reversed(sent)]
    of_context = await asker.list_tasks(ListTasksRequest(context_id=sent[1].context_id))
    assert [task.id for task in of_context.tasks] == [sent[1].id]
    cancelled = await asker.list_tasks(
        ListTasksRequest(context_id=sent[1].context_id, status=TaskState.TASK_STATE_CANCELED)
    )
    assert not cancelled.tasks
    assert {task.id for task in (await other.list_tasks(ListTasksRequest())).tasks}.isdisjoint(found)
    with pytest.raises(InvalidParamsError):
        await asker.list_tasks(ListTasksRequest(page_token="b3RoZXI="))


async def test_the_task_of_another_client_does_not_exist(clients: tuple[Client, Client]) -> None:
    asker, other = clients
    task = (await collect(asker.send_message(request("Hello")))).task

    for call in (
        other.get_task(GetTaskRequest(id=task.id)),
        other.cancel_task(CancelTaskRequest(id=task.id)),
        collect(other.subscribe(SubscribeToTaskRequest(id=task.id))),
    ):
        with pytest.raises(TaskNotFoundError):
            await call


async def waiting(client: Client) -> tuple[Received, dict[str, Any]]:
    """Return a task that waits for an approval, and the call that waits."""
    asked = await collect(client.send_message(request(calling([TEA]))))
    assert asked.state == "input_required"
    (call,) = values(asked.last)
    return asked, call


async def test_a_data_part_approves_a_call_and_the_task_goes_on(
    clients: tuple[Client, Client], server: McpServer
) -> None:
    asker, _ = clients
    asked, call = await waiting(asker)
    assert (call["tool"], call["input"]["label"]) == ("slow", "tea")
    assert calls(server) == []
    again = await asker.get_task(GetTaskRequest(id=asked.task.id))
    assert [each["id"] for each in values(again.status.message)] == [call["id"]]

    decision = data(id=call["id"], approve=True)
    done = await collect(asker.send_message(request(decision, task_id=asked.task.id, context_id=asked.task.context_id)))

    assert (done.task.id, done.state) == (asked.task.id, "completed")
    assert calls(server) == ["tea"]
    assert "slept tea" in done.text
    assert ("tool_result", False) in [(each["type"], each.get("is_error")) for each in done.tools]


async def test_a_rejection_is_for_the_model(clients: tuple[Client, Client], server: McpServer) -> None:
    asker, _ = clients
    asked, call = await waiting(asker)

    decision = data(id=call["id"], approve=False, reason="too dear")
    done = await collect(asker.send_message(request(decision, task_id=asked.task.id)))

    assert done.state == "completed"
    assert "too dear" in done.text
    assert calls(server) == []


async def test_a_task_that_waits_takes_only_decisions_of_its_own_client(clients: tuple[Client, Client]) -> None:
    asker, other = clients
    asked, call = await waiting(asker)
    decision = data(id=call["id"], approve=True)

    with pytest.raises(InvalidParamsError, match="approve"):
        await collect(asker.send_message(request("Yes, do it.", task_id=asked.task.id)))
    with pytest.raises(InvalidParamsError, match="another context"):
        await collect(
            asker.send_message(
                request(decision, task_id=asked.task.id, context_id="0f8fad5b-d9cb-469f-a165-70867728950e")
            )
        )
    with pytest.raises(A2AError):
        await collect(other.send_message(request(decision, task_id=asked.task.id)))
    await asker.cancel_task(CancelTaskRequest(id=asked.task.id))
    with pytest.raises(UnsupportedOperationError):
        await collect(asker.send_message(request(decision, task_id=asked.task.id)))


async def test_an_approver_learns_only_that_the_task_goes_on(
    shared_settings: dict[str, str], keyed: Service, server: McpServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("approver")
    file = folder / "tools.json"
    file.write_text(json.dumps({"tools": [{"name": "shop", "mcp": {"url": server.url}, "approve": ["sl*"]}]}))
    approver = hashlib.sha256(OTHER.encode()).hexdigest()[:16]
    settings = {"API_KEYS": f"{ASKER},{OTHER}", "TOOLS_FILE": str(file), "API_RUNS_TASKS": "true"}
    with running_service(folder, **shared_settings, **settings, APPROVERS=approver) as running:
        async with connected(running.url, key=ASKER) as asker, connected(running.url, key=OTHER) as other:
            asked, call = await waiting(asker)
            decision = request(data(id=call["id"], approve=True), task_id=asked.task.id)
            with pytest.raises(UnsupportedOperationError, match="approver"):
                await collect(asker.send_message(decision))
            seen = await collect(other.send_message(decision))
            done = await ended(asker, asked.task.id)

    assert seen.task.id == asked.task.id
    assert not seen.task.history
    assert seen.text == ""
    assert done.status.state == TaskState.TASK_STATE_COMPLETED
    assert "slept tea" in answer_of(done)


async def test_a_limit_is_an_error_with_the_time_to_wait(
    shared_settings: dict[str, str], stand_in: StandIn, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = {**shared_settings, "RATE_LIMIT_REQUESTS": "1"}
    with running_service(tmp_path_factory.mktemp("limited"), **settings) as running:
        async with httpx.AsyncClient(base_url=running.url) as http:
            answers = [await http.post(path, json={}) for path in ("/a2a", "/a2a", "/a2a/v1/message:send")]

    assert [answer.status_code for answer in answers] == [200, 429, 429]
    assert all(int(answer.headers["retry-after"]) > 0 and answer.json()["error"] for answer in answers[1:])


async def test_a_task_waits_while_the_agent_has_used_up_its_tokens(
    shared_settings: dict[str, str], stand_in: StandIn, redis_server: RedisServer, tmp_path: Path
) -> None:
    # A state of its own: the other agent of these tests would run the task.
    apart = {"STATE_PREFIX": "limited", "TOKENS_PER_MINUTE": "10"}
    with running_service(tmp_path, **shared_settings, **apart) as running:
        async with connected(running.url) as client, connected(running.url, streaming=False, polling=True) as polling:
            # The usage of an answer is counted a moment later. It is that of several minutes.
            long = "Hello " * 300
            eventually(lambda: running.post("/chat", message=long).status_code == 429, "the tokens are used up")
            asked = len(stand_in.requests())
            waits = await collect(polling.send_message(request("Hello again")))
            task = await client.get_task(GetTaskRequest(id=waits.task.id))

    assert task.status.state == TaskState.TASK_STATE_SUBMITTED
    assert len(stand_in.requests()) == asked
