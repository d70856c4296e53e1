"""The Messages API, by the `anthropic` SDK."""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import anthropic
import httpx
from anthropic.types.beta import BetaMessage, BetaMessageParam

from support.protocols import native
from support.protocols.client import Answer, RefusedError, seconds
from support.runtime_gateway import SDK_SECONDS

_WAITING = re.compile(r"^Waiting for the approval of .*\(conversation (?P<conversation>\S+), approval (?P<call>\S+)\)")


@asynccontextmanager
async def connect(url: str, key: str) -> AsyncIterator["AnthropicMessages"]:
    """Connect a client."""
    async with (
        anthropic.AsyncAnthropic(base_url=url, api_key=key, max_retries=0, timeout=SDK_SECONDS) as client,
        native.connect(url, key) as own,
    ):
        yield AnthropicMessages(client, own)


class AnthropicMessages:
    """A client that keeps the history itself. Approvals go to the agent's own API: the protocol has none."""

    def __init__(self, client: anthropic.AsyncAnthropic, own: native.Native) -> None:
        self._client = client
        self._own = own

    async def ask(self, message: str, *, after: Answer | None = None) -> Answer:
        """Return a message."""
        messages: list[BetaMessageParam] = [*(after.more if after else ())]
        messages.append({"role": "user", "content": message})
        return await self._create(messages)

    async def stream(self, message: str) -> AsyncGenerator[str, None]:
        """Yield the text of the events."""
        messages: list[BetaMessageParam] = [{"role": "user", "content": message}]
        with _refusals():
            async with self._client.beta.messages.stream(model="agent", max_tokens=1000, messages=messages) as events:
                async for text in events.text_stream:
                    yield text

    async def approve(self, answer: Answer) -> Answer:
        """Decide on the call that the answer names, and send the answer back to go on."""
        waiting = _WAITING.match(answer.more[-1]["content"][-1].text)
        assert waiting is not None, answer.more[-1]
        await self._own.decide(waiting["conversation"], waiting["call"])
        return await self._create(answer.more)

    async def _create(self, messages: list[BetaMessageParam]) -> Answer:
        with _refusals():
            found = await self._client.beta.messages.create(model="agent", max_tokens=1000, messages=messages)
        return _answer(found, messages)


def _answer(found: BetaMessage, messages: list[BetaMessageParam]) -> Answer:
    waits = found.stop_reason == "pause_turn"
    blocks = found.content[:-1] if waits else found.content
    results = {block.tool_use_id for block in blocks if block.type == "mcp_tool_result"}
    calls = [block for block in blocks if block.type == "mcp_tool_use"]
    return Answer(
        "".join(block.text for block in blocks if block.type == "text"),
        tuple(call.name for call in calls if call.id in results),
        tuple(call.name for call in calls if call.id not in results),
        [*messages, {"role": "assistant", "content": found.content}],
    )


@contextmanager
def _refusals() -> Iterator[None]:
    """Raise RefusedError in place of the errors of the SDK."""
    try:
        yield
    except anthropic.APIStatusError as error:
        headers = dict(error.response.headers)
        # An event in a stream has no status.
        status = None if error.status_code == httpx.codes.OK else error.status_code
        raise RefusedError(_sentence(error), status=status, retry_after=seconds(headers), headers=headers) from error


def _sentence(error: anthropic.APIStatusError) -> str:
    assert isinstance(error.body, dict)
    return str(error.body["error"]["message"])
