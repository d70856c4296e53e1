"""Responses, by the `openai` SDK."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import openai
from openai.types.responses import Response, ResponseInputParam

from support.protocols.client import Answer, RefusedError
from support.protocols.openai_chat import refusals
from support.runtime_gateway import SDK_SECONDS


@asynccontextmanager
async def connect(url: str, key: str) -> AsyncIterator["OpenAIResponses"]:
    """Connect a client."""
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=SDK_SECONDS) as client:
        yield OpenAIResponses(client)


class OpenAIResponses:
    """A client that continues with the id of the previous response."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self._client = client

    async def ask(self, message: str, *, after: Answer | None = None) -> Answer:
        """Return a response."""
        return await self._create([{"role": "user", "content": message}], after)

    async def stream(self, message: str) -> AsyncGenerator[str, None]:
        """Yield the text of the events."""
        with refusals():
            async with await self._client.responses.create(model="agent", input=message, stream=True) as events:
                async for event in events:
                    if event.type == "response.output_text.delta":
                        yield event.delta
                    elif event.type == "response.failed":
                        assert event.response.error is not None
                        raise RefusedError(event.response.error.message)

    async def approve(self, answer: Answer) -> Answer:
        """Send the approvals as input."""
        approvals: ResponseInputParam = [
            {"type": "mcp_approval_response", "approval_request_id": call, "approve": True}
            for call in answer.more["calls"]
        ]
        return await self._create(approvals, answer)

    async def _create(self, given: ResponseInputParam, after: Answer | None) -> Answer:
        with refusals():
            found = await self._client.responses.create(
                model="agent", input=given, previous_response_id=after.more["id"] if after else openai.omit
            )
        return _answer(found)


def _answer(found: Response) -> Answer:
    waiting = [item for item in found.output if item.type == "mcp_approval_request"]
    return Answer(
        found.output_text,
        tuple(item.name for item in found.output if item.type == "mcp_call"),
        tuple(item.name for item in waiting),
        {"id": found.id, "calls": [item.id for item in waiting]},
    )
