"""A provider without a model: it answers from the message. For laptops, demonstrations and load tests."""

import asyncio
import math
import re
from collections.abc import AsyncGenerator

from agent_service.agent.messages import CHARACTERS_PER_TOKEN, Prompt, Usage
from agent_service.agent.provider import Waiting

# The pause after each word makes streaming visible. The second value limits the whole answer.
_WORD_SECONDS = 0.02
_ANSWER_SECONDS = 0.5


class EchoProvider:
    """Repeats the message word by word."""

    model = "echo"

    async def stream(self, prompt: Prompt, usage: Usage, waiting: Waiting) -> AsyncGenerator[str]:
        """Yield the message in pieces of one word each."""
        usage.uncached_tokens = math.ceil(prompt.characters / CHARACTERS_PER_TOKEN)
        pieces = ["You said: ", *re.findall(r"\s*\S+\s*", prompt.message)]
        pause = min(_WORD_SECONDS, _ANSWER_SECONDS / len(pieces))
        written = 0
        for piece in pieces:
            await asyncio.sleep(pause)
            written += len(piece)
            usage.output_tokens = math.ceil(written / CHARACTERS_PER_TOKEN)
            yield piece
        usage.stop_reason = "end_turn"

    async def check(self) -> None:
        """Do nothing: this provider has no dependency that could be unavailable."""

    async def close(self) -> None:
        """Do nothing: this provider has nothing to close."""
