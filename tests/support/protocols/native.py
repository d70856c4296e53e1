"""The agent's own API, by httpx."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from support.protocols.client import Answer, RefusedError, seconds


@asynccontextmanager
async def connect(url: str, key: str) -> AsyncIterator["Native"]:
    """Connect a client."""
    async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": key}, timeout=30) as client:
        yield Native(client)


class Native:
    """A client of `/chat` and `/chat/stream`."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def ask(self, message: str, *, after: Answer | None = None) -> Answer:
        """Return the answer of `/chat`."""
        continued = {} if after is None else {"conversation_id": after.more["conversation_id"]}
        return await self._post("/chat", {"message": message, **continued})

    async def stream(self, message: str) -> AsyncGenerator[str, None]:
        """Yield the text of `/chat/stream`."""
        async with self._client.stream("POST", "/chat/stream", json={"message": message}) as answer:
            if answer.status_code != httpx.codes.OK:
                await answer.aread()
                raise _refused(answer)
            async for line in answer.aiter_lines():
                event = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
                if event.get("type") == "error":
                    raise RefusedError(event["message"])
                if event.get("type") == "text":
                    yield event["content"]

    async def approve(self, answer: Answer) -> Answer:
        """Decide on each call, at `/chat/{conversation_id}/approvals`."""
        for call in answer.more["approvals"]:
            path = f"/chat/{answer.more['conversation_id']}/approvals"
            answer = await self._post(path, {"id": call["id"], "approve": True})
        return answer

    async def decide(self, conversation_id: str, call: str) -> None:
        """Approve a call of a client that goes on with the turn itself."""
        answer = await self._client.post(f"/chat/{conversation_id}/approvals", json={"id": call, "approve": True})
        assert answer.json()["status"] == "decided", answer.text

    async def go_on(self, conversation_id: str, call: str) -> Answer:
        """Return the rest of a turn whose calls are decided."""
        return await self._post(f"/chat/{conversation_id}/approvals", {"id": call})

    async def _post(self, path: str, body: dict[str, Any]) -> Answer:
        answer = await self._client.post(path, json=body)
        if answer.status_code != httpx.codes.OK:
            raise _refused(answer)
        found = answer.json()
        tools = tuple(step["name"] for step in found.get("steps", ()))
        return Answer(found["response"], tools, tuple(call["tool"] for call in found.get("approvals", ())), found)


def _refused(answer: httpx.Response) -> RefusedError:
    detail = answer.json()["detail"]
    sentence = detail if isinstance(detail, str) else "; ".join(fault["msg"] for fault in detail)
    headers = dict(answer.headers)
    return RefusedError(sentence, status=answer.status_code, retry_after=seconds(headers), headers=headers)
