"""SIGTERM while many tool loops run: each client gets an answer or an end, in time, and conversations go on."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx

from stand_in import StandIn, asking
from support.agent import StartService
from support.eventually import eventually
from support.mcp_servers import StartServer, eventually_recorded
from support.tool_agent import calls_of, process_settings
from support.toolbox import entry

TURNS = 50
ADD = calls_of("add", a=2, b=3)
TURN_SECONDS = 20


def last_event(answer: httpx.Response) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(answer.text.strip().rpartition("data: ")[2])
    return event


async def test_a_process_that_ends_finishes_its_turns_first(
    start_service: StartService, start_mcp: StartServer, stand_in: StandIn, tmp_path: Path
) -> None:
    server = start_mcp()
    service = start_service(**process_settings(tmp_path, stand_in, entry(server)))
    calls = [calls_of("slow", duration=2, label="one"), ADD]
    body = {"message": asking("wait", calls=calls)}
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        turns = [asyncio.create_task(client.post("/chat/stream", json=body)) for _ in range(TURNS)]
        await eventually_recorded(server, "started", TURNS)
        service.process.terminate()
        answers = await asyncio.gather(*turns)

    assert [last_event(answer)["type"] for answer in answers] == ["done"] * TURNS
    assert await asyncio.to_thread(service.wait) == 0


async def test_turns_whose_calls_never_end_are_ended_in_time_and_their_conversations_go_on(
    start_service: StartService, start_mcp: StartServer, stand_in: StandIn, tmp_path: Path
) -> None:
    server = start_mcp()
    limits = {"REQUEST_TIMEOUT_SECONDS": str(TURN_SECONDS), "STREAM_TIMEOUT_SECONDS": str(TURN_SECONDS)}
    given = {**process_settings(tmp_path, stand_in, entry(server)), **limits}
    service = start_service(**given)
    waiting = asking("wait", calls=[calls_of("slow", duration=600, label="x")])
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        first = await asyncio.gather(
            *(client.post("/chat", json={"message": asking("sum", calls=[ADD])}) for _ in range(TURNS))
        )
        conversations = [answer.json()["conversation_id"] for answer in first]
        bodies = [{"message": waiting, "conversation_id": each} for each in conversations]
        turns = [
            asyncio.create_task(client.post("/chat/stream" if number % 2 else "/chat", json=body))
            for number, body in enumerate(bodies)
        ]
        await eventually_recorded(server, "started", TURNS)
        service.process.terminate()
        answers = await asyncio.gather(*turns)

    assert [answer.status_code for answer in answers[::2]] == [504] * (TURNS // 2)
    assert [last_event(answer)["type"] for answer in answers[1::2]] == ["error"] * (TURNS // 2)
    assert await asyncio.to_thread(service.wait) == 0
    await eventually_recorded(server, "cancelled", TURNS)
    after = start_service(**given)
    async with httpx.AsyncClient(base_url=after.url, timeout=60) as client:
        bodies = [{"message": asking("sum", calls=[ADD]), "conversation_id": each} for each in conversations]
        again = await asyncio.gather(*(client.post("/chat", json=body) for body in bodies))

    assert [answer.status_code for answer in again] == [200] * TURNS
    assert all(answer.json()["steps"][0]["content"] == "5" for answer in again)


async def test_a_second_signal_cuts_turns_and_clients_see_it(
    start_service: StartService, start_mcp: StartServer, stand_in: StandIn, tmp_path: Path
) -> None:
    server = start_mcp()
    service = start_service(**process_settings(tmp_path, stand_in, entry(server)))
    body = {"message": asking("wait", calls=[calls_of("slow", duration=600, label="x")])}
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        turns = [asyncio.create_task(client.post("/chat/stream", json=body)) for _ in range(TURNS)]
        await eventually_recorded(server, "started", TURNS)
        service.process.terminate()
        await asyncio.to_thread(
            eventually, lambda: httpx.get(f"{service.url}/health/ready").status_code == 503, "the service drains"
        )
        service.process.terminate()
        answers = await asyncio.gather(*turns, return_exceptions=True)

    await asyncio.to_thread(service.wait)
    await eventually_recorded(server, "cancelled", TURNS)
    for answer in answers:
        # Its connection breaks, or the stream ends with an error.
        if isinstance(answer, BaseException):
            assert isinstance(answer, httpx.TransportError)
        else:
            assert last_event(answer)["type"] == "error"
