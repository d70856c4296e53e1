"""The interface of a source of answers."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager
from typing import Protocol

from agent_service.agent.messages import Prompt, Usage
from agent_service.agent.tools import Last, Piece

# Returns a context that is entered while a call waits because the model API throttled it.
Waiting = Callable[[], AbstractContextManager[object]]


class Provider(Protocol):
    """A source of answers. Its errors are those of `agent.errors`."""

    model: str

    def stream(self, prompt: Prompt, usage: Usage, waiting: Waiting) -> AsyncGenerator[Piece | Last]:
        """Yield the answer piece by piece and update `usage` along the way. Closing the generator ends the call.

        An empty text means that data without text has arrived: the answer is still in progress. A transcript, if there
        is one, comes last.
        """
        ...

    async def check(self) -> None:
        """Check, at no cost in tokens, whether the provider can answer; raise a ModelError if not."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...
