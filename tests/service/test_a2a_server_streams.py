"""Streams of A2A that break, are resumed, are shared, and are cancelled; other replicas go on with a task."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from a2a.client import Client
from a2a.types.a2a_pb2 import CancelTaskRequest, GetTaskRequest, SubscribeToTaskRequest, TaskState

from stand_in import StandIn, asking
from support.a2a_client import REST, RPC, Received, answer_of, collect, connected, request
from support.agent import KEY, Service, StartService
from support.eventually import eventually, eventually_async


@pytest.fixture(params=[RPC, REST])
async def client(request: pytest.FixtureRequest, service: Service) -> AsyncIterator[Client]:
    async with connected(service.url, request.param) as found:
        yield found


async def first_text(client: Client, message: str) -> Received:
    """Return what has arrived up to the first text of the answer, and disconnect."""
    received = Received()
    events = client.send_message(request(message))
    async for event in events:
        received.take(event)
        if received.text:
            break
    await events.aclose()  # type: ignore[attr-defined]
    return received


async def test_a_client_that_disconnects_comes_back_to_the_whole_answer(client: Client, stand_in: StandIn) -> None:
    received = await first_text(client, asking("Hello", hold="again", after=2, words=8))
    seen = received.text

    events = client.subscribe(SubscribeToTaskRequest(id=received.task.id))
    rest = Received()
    rest.take(await anext(events))
    stand_in.release("again")
    async for event in events:
        rest.take(event)

    assert rest.state == "completed"
    assert rest.text.startswith(seen)
    assert len(rest.text) > len(seen)
    assert len(stand_in.requests()) == 1
    assert answer_of(await client.get_task(GetTaskRequest(id=received.task.id))) == rest.text


async def test_two_subscribers_get_the_same_answer(client: Client, stand_in: StandIn) -> None:
    received = await first_text(client, asking("Hello", hold="both", after=2, words=8))
    subscribers = [client.subscribe(SubscribeToTaskRequest(id=received.task.id)) for _ in range(2)]
    found = [Received(), Received()]
    for subscriber, each in zip(subscribers, found, strict=True):
        each.take(await anext(subscriber))

    stand_in.release("both")
    for subscriber, each in zip(subscribers, found, strict=True):
        async for event in subscriber:
            each.take(event)

    assert found[0].text == found[1].text != ""
    assert {each.state for each in found} == {"completed"}


async def test_a_cancelled_task_ends_its_stream_and_the_model_call(client: Client, stand_in: StandIn) -> None:
    received = Received()
    cancelled = False
    async for event in client.send_message(request(asking("Hello", hold="never", after=2, words=8))):
        received.take(event)
        if received.text and not cancelled:
            cancelled = True
            task = await client.cancel_task(CancelTaskRequest(id=received.task.id))
            assert task.status.state == TaskState.TASK_STATE_CANCELED

    assert received.state == "canceled"
    eventually(lambda: stand_in.last()["state"] != "running", "the model call ends")


async def test_a_stream_has_heartbeats(heartbeat_service: Service, stand_in: StandIn) -> None:
    message = {"role": "ROLE_USER", "messageId": "1", "parts": [{"text": asking(stall=2)}]}
    async with httpx.AsyncClient(base_url=heartbeat_service.url, headers={"A2A-Version": "1.0"}, timeout=30) as http:
        answer = await http.post("/a2a/v1/message:stream", json={"message": message})

    assert ": waiting" in answer.text
    assert "TASK_STATE_COMPLETED" in answer.text


async def test_another_replica_goes_on_when_the_one_with_the_task_is_killed(
    start_service: StartService, stand_in: StandIn
) -> None:
    settings = {
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": stand_in.url,
        "API_RUNS_TASKS": "true",
    }
    one, two = start_service(**settings), start_service(**settings)
    async with connected(one.url) as client, connected(two.url) as other:
        received = await first_text(client, asking("Hello", hold="killed", after=2, words=8))
        subscriber = other.subscribe(SubscribeToTaskRequest(id=received.task.id))
        rest = Received()
        rest.take(await anext(subscriber))
        one.kill()
        stand_in.release("killed")
        async for event in subscriber:
            rest.take(event)
        task = await other.get_task(GetTaskRequest(id=received.task.id))

    assert rest.state == "completed"
    assert rest.text == answer_of(task)
    assert rest.text.startswith(received.text)


async def test_a_stream_and_a_waiting_client_get_the_whole_answer_of_a_process_that_drains(
    start_service: StartService, stand_in: StandIn
) -> None:
    service = start_service(ANTHROPIC_API_KEY=KEY, ANTHROPIC_BASE_URL=stand_in.url)
    async with connected(service.url) as client, connected(service.url, REST, streaming=False) as waiting:
        events = client.send_message(request(asking("Hello", hold="drained", after=2, words=8)))
        received = Received()
        received.take(await anext(events))
        waits = asyncio.create_task(collect(waiting.send_message(request(asking("Wait", hold="drained")))))
        await eventually_async(lambda: two_questions(stand_in), "the model is asked twice")
        service.terminate()
        await eventually_async(lambda: drains(service), "the process refuses new work")
        stand_in.release("drained")
        async for event in events:
            received.take(event)
        answered = await waits

    assert (received.state, answered.state) == ("completed", "completed")
    assert received.text.endswith("word7")
    assert service.wait() == 0


async def two_questions(stand_in: StandIn) -> bool:
    return len(stand_in.requests()) == 2


async def drains(service: Service) -> bool:
    return service.get("/health/ready").status_code == 503
