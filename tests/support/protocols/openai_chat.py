"""Chat completions, by the `openai` SDK."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import openai
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam

from support.protocols import native
from support.protocols.client import Answer, RefusedError, seconds
from support.runtime_gateway import SDK_SECONDS


@asynccontextmanager
async def connect(url: str, key: str) -> AsyncIterator["OpenAIChat"]:
    """Connect a client."""
    async with (
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=SDK_SECONDS) as client,
        native.connect(url, key) as own,
    ):
        yield OpenAIChat(client, own)


class OpenAIChat:
    """A client that keeps the history itself. Approvals, and what follows, are in the agent's own API."""

    def __init__(self, client: openai.AsyncOpenAI, own: native.Native) -> None:
        self._client = client
        self._own = own

    async def ask(self, message: str, *, after: Answer | None = None) -> Answer:
        """Return a completion of the messages so far."""
        messages: list[ChatCompletionMessageParam] = [*(after.more["messages"] if after else ())]
        messages.append({"role": "user", "content": message})
        with refusals():
            found = await self._client.chat.completions.create(model="agent", messages=messages)
        text = found.choices[0].message.content or ""
        messages.append({"role": "assistant", "content": text})
        more = _extension(found)
        tools = tuple(step["name"] for step in more.get("steps", ()))
        waits = tuple(call["tool"] for call in more.get("approvals", ()))
        return Answer(text, tools, waits, {**more, "messages": messages})

    async def stream(self, message: str) -> AsyncGenerator[str, None]:
        """Yield the text of the chunks."""
        messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": message}]
        with refusals():
            async with await self._client.chat.completions.create(
                model="agent", messages=messages, stream=True
            ) as chunks:
                async for chunk in chunks:
                    text = chunk.choices[0].delta.content if chunk.choices else None
                    if text:
                        yield text

    async def approve(self, answer: Answer) -> Answer:
        """Decide on each call at the path that the answer names, and get the rest of the answer there."""
        conversation_id, calls = answer.more["conversation_id"], [call["id"] for call in answer.more["approvals"]]
        for call in calls:
            await self._own.decide(conversation_id, call)
        return await self._own.go_on(conversation_id, calls[0])


def _extension(found: ChatCompletion) -> dict[str, Any]:
    """Return the field `portside`, which the SDK does not know."""
    more: dict[str, Any] = (found.model_extra or {}).get("portside", {})
    return more


@contextmanager
def refusals() -> Iterator[None]:
    """Raise RefusedError in place of the errors of the SDK."""
    try:
        yield
    except openai.APIStatusError as error:
        headers = dict(error.response.headers)
        raise RefusedError(
            _sentence(error), status=error.status_code, retry_after=seconds(headers), headers=headers
        ) from error
    except openai.APIError as error:
        # An event in the stream.
        raise RefusedError(_sentence(error)) from error


def _sentence(error: openai.APIError) -> str:
    assert error.type, f"an error without a type: {error.body}"
    assert isinstance(error.body, dict)
    return str(error.body["message"])
