"""The agent as an A2A agent, called by the official client: both bindings, versions 1.0 and 0.3."""

import http.client
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from a2a.client import Client
from a2a.types.a2a_pb2 import (
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    Part,
    SendMessageRequest,
    SubscribeToTaskRequest,
    Task,
    TaskPushNotificationConfig,
    TaskState,
)
from a2a.utils.errors import (
    A2AError,
    ContentTypeNotSupportedError,
    InvalidParamsError,
    PushNotificationNotSupportedError,
    TaskNotCancelableError,
    UnsupportedOperationError,
)

from stand_in import StandIn, asking
from support.a2a_client import REST, RPC, Received, answer_of, collect, connected, data, request
from support.agent import Service
from support.eventually import eventually_async

INTERFACES = [(RPC, "1.0"), (REST, "1.0"), (RPC, "0.3"), (REST, "0.3")]
UNKNOWN = "9b2c4d6e-0000-4000-8000-0123456789ab"
PNG = Part(raw=b"\x89PNG\r\n", media_type="image/png")


@pytest.fixture(params=INTERFACES, ids="-".join)
async def client(request: pytest.FixtureRequest, service: Service) -> AsyncIterator[Client]:
    """Yield a client for each interface of the card."""
    async with connected(service.url, *request.param) as found:
        yield found


@pytest.fixture(params=[RPC, REST])
async def new(request: pytest.FixtureRequest, service: Service) -> AsyncIterator[Client]:
    """Yield a client of version 1.0 for each binding."""
    async with connected(service.url, request.param) as found:
        yield found


async def send(client: Client, message: SendMessageRequest) -> Received:
    return await collect(client.send_message(message))


def rpc(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


async def test_a_message_is_streamed_and_its_task_completed(client: Client, stand_in: StandIn) -> None:
    received = await send(client, request(asking("Grüße, 🌍", words=5, slow=0.1)))

    assert received.state == "completed"
    assert "Grüße, 🌍" in received.text
    assert received.pieces > 2
    task = await client.get_task(GetTaskRequest(id=received.task.id))
    assert answer_of(task) == received.text
    assert [part.text for part in task.history[0].parts] == [stand_in.last()["message"]]


@pytest.mark.parametrize(("binding", "version"), INTERFACES)
async def test_a_message_is_answered_whole(service: Service, binding: str, version: str) -> None:
    async with connected(service.url, binding, version, streaming=False) as client:
        received = await send(client, request("Hello"))

    assert received.state == "completed"
    assert "Hello" in received.text


async def test_messages_of_a_context_are_one_conversation(client: Client, stand_in: StandIn) -> None:
    first = await send(client, request("My name is Ada."))
    second = await send(client, request("Who am I?", context_id=first.task.context_id))

    assert second.task.context_id == first.task.context_id
    assert second.task.id != first.task.id
    assert stand_in.last()["history"] == ["user: My name is Ada.", f"assistant: {first.text}"]


async def test_a_client_may_choose_the_id_of_its_context(new: Client, stand_in: StandIn) -> None:
    context_id = "0f8fad5b-d9cb-469f-a165-70867728950e"
    for message in ("One.", "Two."):
        received = await send(new, request(message, context_id=context_id))
        assert received.task.context_id == context_id
    assert stand_in.last()["history"][0] == "user: One."

    with pytest.raises(InvalidParamsError, match="contextId"):
        await send(new, request("Three.", context_id="my context"))


async def test_a_client_that_does_not_wait_asks_for_the_task(service: Service, stand_in: StandIn) -> None:
    stand_in.behave(hold="polled")
    async with connected(service.url, streaming=False, polling=True) as client:
        received = await send(client, request("Hello"))
        assert received.state in {"submitted", "working"}
        stand_in.release("polled")

        async def completed() -> Task | None:
            task: Task = await client.get_task(GetTaskRequest(id=received.task.id))
            return task if task.status.state == TaskState.TASK_STATE_COMPLETED else None

        task = await eventually_async(completed, "the task is completed")

    assert "Hello" in answer_of(task)


async def test_an_image_and_instructions_reach_the_model(new: Client, stand_in: StandIn) -> None:
    await send(new, request("What is this?", PNG, system="Answer in French."))

    question = stand_in.last()
    assert '"media_type":"image/png"' in question["body"].replace(" ", "")
    assert question["system"] == "Be brief.\n\nAnswer in French."


@pytest.mark.parametrize("part", [Part(raw=b"%PDF", media_type="application/pdf"), data(a=1)])
async def test_other_content_is_refused(new: Client, stand_in: StandIn, part: Part) -> None:
    with pytest.raises(ContentTypeNotSupportedError, match="it takes text"):
        await send(new, request("Read this.", part))
    assert stand_in.requests() == []


async def test_a_message_without_text_is_refused(new: Client) -> None:
    with pytest.raises(InvalidParamsError):
        await send(new, request(" "))


async def test_a_message_of_too_many_tokens_is_refused(new: Client, stand_in: StandIn) -> None:
    with pytest.raises(InvalidParamsError, match="at most 150000"):
        await send(new, request("word " * 150_000))
    assert stand_in.requests() == []


@pytest.mark.parametrize("path", ["/a2a", "/a2a/v1/message:send"])
def test_a_body_that_is_too_large_is_refused(service: Service, path: str) -> None:
    connection = http.client.HTTPConnection(service.url.removeprefix("http://"), timeout=30)
    connection.putrequest("POST", path)
    connection.putheader("Content-Length", str(8 * 1024 * 1024 + 1))
    connection.endheaders()
    answer = connection.getresponse()

    assert answer.status == 413
    assert "message" in json.loads(answer.read())["error"]
    connection.close()


async def test_an_error_of_the_model_fails_the_task(client: Client) -> None:
    received = await send(client, request(asking(fault=400)))

    assert received.state == "failed"
    assert received.last.parts[0].text
    task = await client.get_task(GetTaskRequest(id=received.task.id))
    assert task.status.state == TaskState.TASK_STATE_FAILED


async def test_an_unknown_task_is_not_found(client: Client) -> None:
    calls = [
        client.get_task(GetTaskRequest(id=UNKNOWN)),
        client.cancel_task(CancelTaskRequest(id=UNKNOWN)),
        collect(client.subscribe(SubscribeToTaskRequest(id=UNKNOWN))),
        send(client, request(data(id=f"{UNKNOWN}.1", approve=True), task_id=UNKNOWN)),
    ]
    for call in calls:
        with pytest.raises(A2AError, match=r"(?i)does not exist|not found"):
            await call


async def test_a_task_that_has_ended_takes_no_message_no_cancel_and_no_subscriber(new: Client) -> None:
    task = (await send(new, request("Hello"))).task

    with pytest.raises(UnsupportedOperationError, match="without a taskId"):
        await send(new, request("More", task_id=task.id))
    with pytest.raises(TaskNotCancelableError):
        await new.cancel_task(CancelTaskRequest(id=task.id))
    with pytest.raises(UnsupportedOperationError, match="GetTask"):
        await collect(new.subscribe(SubscribeToTaskRequest(id=task.id)))


async def test_history_and_artifacts_are_left_out_on_request(new: Client) -> None:
    task = (await send(new, request("Hello"))).task

    bare = await new.get_task(GetTaskRequest(id=task.id, history_length=0))
    assert not bare.history
    assert bare.artifacts
    listed = await new.list_tasks(ListTasksRequest(context_id=task.context_id))
    assert [each.id for each in listed.tasks] == [task.id]
    assert not listed.tasks[0].artifacts
    whole = await new.list_tasks(ListTasksRequest(context_id=task.context_id, include_artifacts=True))
    assert whole.tasks[0].artifacts


async def test_without_client_keys_only_the_tasks_of_a_context_are_listed(new: Client) -> None:
    with pytest.raises(UnsupportedOperationError, match="contextId"):
        await new.list_tasks(ListTasksRequest())


async def test_push_notifications_are_refused(new: Client) -> None:
    config = TaskPushNotificationConfig(url="https://client.example/hook")
    asked = request("Hello")
    asked.configuration.task_push_notification_config.CopyFrom(config)

    with pytest.raises(PushNotificationNotSupportedError):
        await send(new, asked)
    with pytest.raises(A2AError):
        await new.create_task_push_notification_config(config)


async def test_the_card_names_the_address_that_the_client_used(service: Service) -> None:
    async with httpx.AsyncClient(base_url=service.url) as client:
        first = await client.get("/.well-known/agent-card.json", headers={"Host": "127.0.0.1:1"})
        again = await client.get(
            "/.well-known/agent-card.json", headers={"Host": "127.0.0.1:1", "If-None-Match": first.headers["etag"]}
        )

    assert first.json()["url"] == "http://127.0.0.1:1/a2a"
    assert "max-age" in first.headers["cache-control"]
    assert again.status_code == 304


async def test_a_slash_at_the_end_of_the_address_does_not_matter(service: Service) -> None:
    async with httpx.AsyncClient(base_url=service.url, headers={"A2A-Version": "1.0"}) as web:
        answer = await web.post("/a2a/", json=rpc("GetTask", id=UNKNOWN))

    assert answer.json()["error"]["code"] == -32001


async def test_what_is_no_call_gets_the_error_of_its_binding(service: Service) -> None:
    async with httpx.AsyncClient(base_url=service.url, headers={"A2A-Version": "1.0"}) as web:
        codes = [
            (await web.post("/a2a", content=content)).json()["error"]["code"]
            for content in ("{", "[]", '{"jsonrpc":"2.0","id":1,"method":"Nothing"}')
        ]
        missing = await web.get("/a2a/v1/nothing")
        wrong = await web.post("/a2a/v1/message:send", content="{")
        other_version = await web.post("/a2a", json=rpc("GetTask", id=UNKNOWN), headers={"A2A-Version": "2.0"})

    assert codes == [-32700, -32600, -32601]
    assert (missing.status_code, wrong.status_code) == (404, 400)
    assert missing.json()["error"]["message"].startswith("The agent has no such method")
    assert other_version.json()["error"]["code"] == -32009


async def test_what_clients_send_is_not_logged(service: Service) -> None:
    async with httpx.AsyncClient(base_url=service.url, headers={"A2A-Version": "1.0"}) as web:
        await web.post("/a2a", json=rpc("SendMessage", message={"parts": "a-secret-word"}))
        await web.post("/a2a", json=rpc("message/send", message={"parts": "a-secret-word"}))
        await web.post("/a2a/v1/message:send", json={"message": {"parts": "a-secret-word"}})
        await web.get("/a2a/v1/tasks/a-secret-word")

    assert "a-secret-word" not in service.log()
    assert "Traceback" not in service.log()


async def test_questions_of_a2a_are_counted_as_such(new: Client, service: Service) -> None:
    sample = 'agent_api_requests_total{api="a2a",outcome="ok"}'
    before = service.metric(sample)
    await send(new, request("Hello"))

    assert service.metric(sample) == before + 1


async def test_a_task_of_our_own_api_is_one_of_a2a(new: Client, service: Service) -> None:
    chat = service.post("/chat", message="Hello", background=True).json()

    task: Task = await new.get_task(GetTaskRequest(id=chat["task_id"]))

    assert task.context_id == chat["conversation_id"]


def test_an_agent_that_no_client_of_a2a_calls_does_not_load_the_sdk() -> None:
    program = "import sys, agent_service.app; sys.exit(any(name.partition('.')[0] == 'a2a' for name in sys.modules))"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
