"""What a source of answers has to offer."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question: what the user wrote, and the system prompt that goes with it."""

    message: str
    system: str | None = None


@dataclass(slots=True)
class Usage:
    """Tokens of one turn; grows while the answer comes in, so that a broken turn is counted as far as it came."""

    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def total(self) -> int:
        """Tokens sent and received together."""
        return self.input_tokens + self.output_tokens


class Provider(Protocol):
    """A source of answers. Its errors are those of `agent.errors`."""

    model: str

    def stream(self, prompt: Prompt, usage: Usage) -> AsyncGenerator[str]:
        """Give the answer piece by piece and fill in `usage` on the way. Closing the generator ends the call."""
        ...

    async def check(self) -> None:
        """Find out, at no cost in tokens, whether an answer could be had; raises a ModelError if not."""
        ...

    async def close(self) -> None:
        """Let go of all connections."""
        ...
