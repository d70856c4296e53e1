"""A provider without a model: it answers from the message. For laptops, demonstrations and load tests."""

import asyncio
import math
import re
import uuid
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any

import orjson

from agent_service.agent.details import Message, text_of
from agent_service.agent.messages import CHARACTERS_PER_TOKEN, Prompt, Usage
from agent_service.agent.provider import Waiting
from agent_service.agent.step import Step
from agent_service.agent.tool_choice import choose

# The pause after each word makes streaming visible. The second value limits the whole answer.
_WORD_SECONDS = 0.02
_ANSWER_SECONDS = 0.5
# A result of a tool may have many thousands of words.
_MOST_PIECES = 500


class EchoProvider:
    """Repeats the message word by word. If the message asks for a tool, it calls it and answers with the result."""

    model = "echo"

    async def stream(self, prompt: Prompt, usage: Usage, waiting: Waiting) -> AsyncGenerator[str]:
        """Yield the message in pieces of one word each."""
        usage.uncached_tokens = math.ceil(prompt.characters / CHARACTERS_PER_TOKEN)
        async for piece in _paced(_repeated(prompt.message), usage):
            yield piece
        usage.stop_reason = "end_turn"

    async def step(self, step: Step, usage: Usage, waiting: Waiting) -> AsyncGenerator[str]:
        """Call the tool that the message asks for, or yield the results of the calls, or else the message."""
        # The loop estimates the tokens of the prompt.
        usage.sent = True
        question = _question(step.messages[-1])
        choice = choose(question, step.tools) if question is not None and step.may_call else None
        if choice is not None:
            block = {"type": "tool_use", "id": f"toolu_{uuid.uuid4().hex}", "name": choice.name, "input": choice.input}
            step.content.append(block)
            usage.output_tokens = math.ceil(len(orjson.dumps([choice.name, choice.input])) / CHARACTERS_PER_TOKEN)
            usage.stop_reason = "tool_use"
            return
        pieces = _repeated(question) if question is not None else _grouped(_report(step.messages))
        async for piece in _paced(pieces, usage):
            yield piece
        step.content.append({"type": "text", "text": "".join(pieces)})
        usage.stop_reason = "end_turn"

    async def check(self) -> None:
        """Do nothing: this provider has no dependency that could be unavailable."""

    async def close(self) -> None:
        """Do nothing: this provider has nothing to close."""


def _question(message: Message) -> str | None:
    """Return the text of a message; None if it has results of tools."""
    content = message["content"]
    if isinstance(content, list) and any(block["type"] == "tool_result" for block in content):
        return None
    return text_of(message)


async def _paced(pieces: Sequence[str], usage: Usage) -> AsyncGenerator[str]:
    """Yield the pieces with a pause before each, and count their tokens."""
    pause = min(_WORD_SECONDS, _ANSWER_SECONDS / len(pieces))
    written = 0
    for piece in pieces:
        await asyncio.sleep(pause)
        written += len(piece)
        usage.output_tokens = math.ceil(written / CHARACTERS_PER_TOKEN)
        yield piece


def _repeated(message: str) -> list[str]:
    return ["You said: ", *_split(message)]


def _split(text: str) -> list[str]:
    """Return a text in pieces of one word each."""
    return re.findall(r"\s*\S+\s*", text)


def _grouped(text: str) -> list[str]:
    """Return a text in pieces of one word each, or of several if it is long."""
    words = _split(text)
    size = math.ceil(len(words) / _MOST_PIECES)
    return ["".join(words[first : first + size]) for first in range(0, len(words), size)]


def _report(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return an answer with the results in the last message, of the calls in the one before."""
    calls, results = (messages[-2]["content"], messages[-1]["content"])
    names = {block["id"]: block["name"] for block in calls if block["type"] == "tool_use"}
    return "\n\n".join(
        f"{names[block['tool_use_id']]} {'failed' if block.get('is_error') else 'answered'}: "
        f"{_text(block.get('content', ()))}"
        for block in results
        if block["type"] == "tool_result"
    )


def _text(content: Iterable[Mapping[str, Any]]) -> str:
    return "\n".join(str(block["text"]) if block["type"] == "text" else f"({block['type']})" for block in content)
