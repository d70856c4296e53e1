"""The interface of a source of answers."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager
from typing import Protocol

from agent_service.agent.messages import Prompt, Usage

# Makes what is entered for as long as a call waits because the model API turned it away.
Waiting = Callable[[], AbstractContextManager[object]]


class Provider(Protocol):
    """A source of answers. Its errors are those of `agent.errors`."""

    model: str

    def stream(self, prompt: Prompt, usage: Usage, waiting: Waiting) -> AsyncGenerator[str]:
        """Give the answer piece by piece and fill in `usage` on the way. Closing the generator ends the call.

        A piece is empty when something came that has no text, and shows that the answer goes on.
        """
        ...

    async def check(self) -> None:
        """Find out, at no cost in tokens, whether an answer could be had; raises a ModelError if not."""
        ...

    async def close(self) -> None:
        """Let go of all connections."""
        ...
