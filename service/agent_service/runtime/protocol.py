"""The interface of a runtime protocol.

`components` creates each of them with the same arguments, all from the settings:

    Invocations(connection, path=settings.runtime_path, health_path=settings.runtime_health_path)
    OpenAi(connection, path=…, health_path=…, model=settings.default_model)
    A2a(connection, path=…, health_path=…)

`path` and `health_path` are None where the protocol's default applies. A protocol sends its requests with
`connection.send` (`runtime.connection`), with the headers of `runtime.headers.of_turn(turn)`. It does not retry
and does not limit the time: `runtime.provider` retries an UnreachableError, and the turn has a time limit.
"""

from collections.abc import AsyncGenerator
from typing import Protocol

from agent_service.agent.messages import Prompt
from agent_service.agent.tools import Piece
from agent_service.agent.turns import Turn


class RuntimeProtocol(Protocol):
    """A way to call the runtime. Its errors are those of `runtime.errors`, which are ModelErrors."""

    def answer(self, prompt: Prompt, turn: Turn) -> AsyncGenerator[Piece]:
        """Yield the answer piece by piece as it arrives. Closing the generator ends the runtime's request.

        An empty text means that data without text has arrived: the answer is still in progress.
        """
        ...

    async def check(self) -> str:
        """Return a sentence on the state of the runtime if it works; raise a ModelError if not."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...
