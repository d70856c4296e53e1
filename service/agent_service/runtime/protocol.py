"""The interface of a runtime protocol."""

from collections.abc import AsyncGenerator
from typing import Protocol

from agent_service.agent.messages import Prompt
from agent_service.agent.turns import Turn


class RuntimeProtocol(Protocol):
    """A way to call the runtime. Its errors are those of `runtime.errors`, which are ModelErrors."""

    def answer(self, prompt: Prompt, turn: Turn) -> AsyncGenerator[str]:
        """Yield the answer piece by piece as it arrives. Closing the generator ends the runtime's request.

        An empty piece means that data without text has arrived: the answer is still in progress.
        """
        ...

    async def check(self) -> str:
        """Return a sentence on the state of the runtime if it works; raise a ModelError if not."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...
