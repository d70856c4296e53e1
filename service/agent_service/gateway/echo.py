"""Answers of the echo provider in the form of each API, so that a runtime can be tried without a key."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, nullcontext
from typing import Any

import orjson
from multidict import CIMultiDict

from agent_service.agent.claude.written import EVENTS, event, last_events, message, new_id, text_delta
from agent_service.agent.echo import EchoProvider
from agent_service.agent.messages import Prompt, Usage
from agent_service.agent.provider import Waiting
from agent_service.gateway.forms import JSON, Form, RefusedError
from agent_service.gateway.question import Question
from agent_service.gateway.reply import Reply, nothing, single


class Echo:
    """Answers from the last user message; a `ModelApi`. There is no cache, so that a mark has no effect."""

    marks = True

    def __init__(self, provider: EchoProvider) -> None:
        self._provider = provider

    async def call(
        self, path: str, received: Mapping[str, str], question: Question, form: Form, waiting: Waiting
    ) -> Reply:
        """Return the answer to a question in a form.

        Raises:
            RefusedError: when the question has no text of a user.
        """
        prompt = _prompt(question.content)
        usage = Usage()
        pieces = self._provider.stream(prompt, usage, nullcontext)
        if question.streamed:
            events = _message_events if form is Form.MESSAGES else _chat_events
            chunks = events(question.model, pieces, usage, prompt)
            headers = CIMultiDict({"Content-Type": EVENTS, "request-id": new_id("req")})
            return Reply(200, headers, chunks, nothing)
        async with aclosing(pieces):
            text = "".join([piece async for piece in pieces])
        return _whole(_message(question.model, text, usage) if form is Form.MESSAGES else _chat(question, text, usage))

    async def count_tokens(self, path: str, received: Mapping[str, str], question: Question, waiting: Waiting) -> Reply:
        """Return an estimate of the number of tokens of a question. Errors as `call`."""
        return _whole({"input_tokens": _input_tokens(_prompt(question.content))})

    async def close(self) -> None:
        """Do nothing: there are no connections."""


def _prompt(body: bytes) -> Prompt:
    try:
        found: dict[str, Any] = orjson.loads(body)
        messages = found["messages"]
        asked = next(message["content"] for message in reversed(messages) if message["role"] == "user")
        return Prompt(_text(asked), system=_text(found.get("system") or "") or None)
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration):
        raise RefusedError(400, "invalid_request_error", "messages: there is no message of a user.") from None


def _input_tokens(prompt: Prompt) -> int:
    return max(1, prompt.characters // 4)


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(str(block.get("text") or "") for block in content if isinstance(block, dict) and "text" in block)


def _whole(body: dict[str, Any]) -> Reply:
    content = orjson.dumps(body)
    headers = CIMultiDict({"Content-Type": JSON, "request-id": new_id("req")})
    return Reply(200, headers, single(content), nothing, len(content))


def _message(model: str, text: str, usage: Usage) -> dict[str, Any]:
    return message(model, [{"type": "text", "text": text}], _message_usage(usage), stop_reason="end_turn")


def _message_usage(usage: Usage) -> dict[str, int]:
    return {"input_tokens": usage.uncached_tokens, "output_tokens": usage.output_tokens}


async def _message_events(
    model: str, pieces: AsyncGenerator[str], usage: Usage, prompt: Prompt
) -> AsyncIterator[bytes]:
    usage.uncached_tokens = _input_tokens(prompt)
    yield event("message_start", message=message(model, [], _message_usage(usage), stop_reason=None))
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    async with aclosing(pieces):
        async for piece in pieces:
            yield text_delta(0, piece)
    yield event("content_block_stop", index=0)
    yield last_events("end_turn", {"output_tokens": usage.output_tokens})


def _chat(question: Question, text: str, usage: Usage) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    head = {"id": new_id("chatcmpl"), "object": "chat.completion", "created": int(time.time()), "model": question.model}
    return {**head, "choices": [choice], "usage": _chat_usage(usage)}


async def _chat_events(model: str, pieces: AsyncGenerator[str], usage: Usage, _: Prompt) -> AsyncIterator[bytes]:
    head = {"id": new_id("chatcmpl"), "object": "chat.completion.chunk", "created": int(time.time()), "model": model}
    yield _chunk(head, {"role": "assistant", "content": ""})
    async with aclosing(pieces):
        async for piece in pieces:
            yield _chunk(head, {"content": piece})
    yield _chunk(head, {}, finish="stop")
    yield b"data: %s\n\ndata: [DONE]\n\n" % orjson.dumps({**head, "choices": [], "usage": _chat_usage(usage)})


def _chunk(head: dict[str, Any], delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
    return b"data: %s\n\n" % orjson.dumps({**head, "choices": [choice]})


def _chat_usage(usage: Usage) -> dict[str, int]:
    sent, received = usage.uncached_tokens, usage.output_tokens
    return {"prompt_tokens": sent, "completion_tokens": received, "total_tokens": sent + received}
