"""A provider with no model: it answers from the message. For laptops, demonstrations and load tests."""

import asyncio
import math
import re
from collections.abc import AsyncGenerator

from agent_service.agent.messages import CHARACTERS_PER_TOKEN, Prompt, Usage
from agent_service.agent.provider import Waiting

# Words come this far apart, so that a stream can be seen to flow; a whole answer takes no longer than the second.
_WORD_SECONDS = 0.02
_ANSWER_SECONDS = 0.5


class EchoProvider:
    """Repeats the message, word by word."""

    model = "echo"

    async def stream(self, prompt: Prompt, usage: Usage, waiting: Waiting) -> AsyncGenerator[str]:
        """Give the message back in pieces of one word each."""
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
        """There is nothing that could be away."""

    async def close(self) -> None:
        """There is nothing to close."""
