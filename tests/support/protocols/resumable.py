"""The streams that a client can leave and come back to, each with its own client."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import httpx
from a2a.client import Client
from a2a.types.a2a_pb2 import GetTaskRequest, SubscribeToTaskRequest
from a2a.utils.errors import A2AError

from support.a2a_client import REST, RPC, Received, answer_of, connected, request


@dataclass(frozen=True)
class Seen:
    """What a client has seen of an answer: its text so far, the id of the last event, and whether it has ended."""

    text: str = ""
    position: str = ""
    ended: bool = False


NOTHING = Seen()


class Resumable(Protocol):
    """A client of answers that go on without it."""

    async def begin(self, message: str) -> str:
        """Ask, leave, and return the name of the answer."""
        ...

    def follow(self, name: str, after: Seen = NOTHING) -> AsyncGenerator[Seen, None]:
        """Yield what the client has seen after each event; it goes on after what it saw before, if it can."""
        ...


class Native:
    """Background chats, and the events of their tasks."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def begin(self, message: str) -> str:
        """Ask with `background`."""
        answer = await self._http.post("/chat", json={"message": message, "background": True})
        events_url: str = answer.raise_for_status().json()["events_url"]
        return events_url

    async def follow(self, name: str, after: Seen = NOTHING) -> AsyncGenerator[Seen, None]:
        """Yield from `/tasks/{task_id}/events`."""
        seen = after
        async for event_id, event in _events(self._http, name, {"Last-Event-ID": seen.position}):
            kind = event["type"]
            assert kind != "error", event
            text = {"text": seen.text, "restarted": ""}.get(kind)
            seen = Seen(seen.text if text is None else text + event["content"], event_id, kind == "done")
            yield seen


class Responses:
    """Responses of OpenAI in the background."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def begin(self, message: str) -> str:
        """Ask with `background`."""
        body = {"model": "agent", "input": message, "background": True}
        name: str = (await self._http.post("/v1/responses", json=body)).raise_for_status().json()["id"]
        return name

    async def follow(self, name: str, after: Seen = NOTHING) -> AsyncGenerator[Seen, None]:
        """Yield from `GET /v1/responses/{id}`."""
        seen = after
        query = f"?stream=true&starting_after={seen.position}" if seen.position else "?stream=true"
        async for _, event in _events(self._http, f"/v1/responses/{name}{query}", {}):
            seen = replace(seen, position=str(event["sequence_number"]))
            if event["type"] == "response.output_text.delta":
                seen = replace(seen, text=seen.text + event["delta"])
            elif event["type"] == "response.completed":
                seen = replace(seen, ended=True)
            yield seen


class A2A:
    """Tasks of A2A, whose subscribers get the answer from its start."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def begin(self, message: str) -> str:
        """Send a message."""
        async with aclosing(self._client.send_message(request(message))) as events:  # type: ignore[type-var]
            received = Received()
            received.take(await anext(events))
        name: str = received.task.id
        return name

    async def follow(self, name: str, after: Seen = NOTHING) -> AsyncGenerator[Seen, None]:
        """Yield from SubscribeToTask, or from GetTask once the task has ended."""
        received = Received()
        try:
            async with aclosing(
                self._client.subscribe(SubscribeToTaskRequest(id=name))  # type: ignore[type-var]
            ) as events:
                async for event in events:
                    received.take(event)
                    yield Seen(received.text, ended=received.state == "completed")
        except A2AError as error:
            if "The task has ended" not in answer_to(error)[1]:
                raise
            yield Seen(answer_of(await self._client.get_task(GetTaskRequest(id=name))), ended=True)


def answer_to(error: A2AError | httpx.HTTPStatusError) -> tuple[int, str]:
    """Return the status and the text with which a request was refused; the status is 0 if it was in JSON-RPC."""
    cause = error if isinstance(error, httpx.HTTPStatusError) else error.__cause__
    if isinstance(cause, httpx.HTTPStatusError):
        return cause.response.status_code, cause.response.text
    return 0, str(error)


async def _events(
    http: httpx.AsyncClient, path: str, headers: dict[str, str]
) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
    """Yield the id and the data of each event."""
    given = {name: value for name, value in headers.items() if value}
    async with http.stream("GET", path, headers=given) as answer:
        if answer.is_error:
            await answer.aread()
        answer.raise_for_status()
        event_id = ""
        async for line in answer.aiter_lines():
            if line.startswith("id: "):
                event_id = line.removeprefix("id: ")
            elif line.startswith("data: "):
                yield event_id, json.loads(line.removeprefix("data: "))


@asynccontextmanager
async def _http(kind: Callable[[httpx.AsyncClient], Resumable], url: str, key: str) -> AsyncIterator[Resumable]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": key}, timeout=60, limits=limits) as http:
        yield kind(http)


@asynccontextmanager
async def _a2a(binding: str, version: str, url: str, key: str) -> AsyncIterator[Resumable]:
    async with connected(url, binding, version, key=key) as client:
        yield A2A(client)


RESUMABLE: dict[str, Callable[[str, str], AbstractAsyncContextManager[Resumable]]] = {
    "native": partial(_http, Native),
    "openai-responses": partial(_http, Responses),
    "a2a": partial(_a2a, RPC, "1.0"),
    "a2a-rest": partial(_a2a, REST, "1.0"),
    "a2a-0.3": partial(_a2a, RPC, "0.3"),
    "a2a-rest-0.3": partial(_a2a, REST, "0.3"),
}
"""Connects a client to the agent at a URL, with a key; by the name of the protocol."""
