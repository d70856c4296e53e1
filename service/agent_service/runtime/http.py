"""The protocol `http`: the runtime is an HTTP application of its own, which answers no turns."""

from collections.abc import AsyncGenerator

from agent_service.agent.errors import ModelRefusedError
from agent_service.agent.messages import Prompt
from agent_service.agent.turns import Turn
from agent_service.runtime.connection import Connection
from agent_service.runtime.health import check_path

HEALTH_PATH = "/"


class Http:
    """Checks the runtime, and refuses turns: `runtime.proxy` passes on the requests."""

    def __init__(self, connection: Connection, *, health_path: str | None) -> None:
        self._connection = connection
        self._health_path = health_path or HEALTH_PATH

    async def answer(self, prompt: Prompt, turn: Turn) -> AsyncGenerator[str]:
        """Raise a ModelRefusedError."""
        raise ModelRefusedError(
            "This agent's runtime has no chat interface: call its own paths (RUNTIME_PROTOCOL=http).", kind="no_turns"
        )
        yield ""  # makes this a generator

    async def check(self) -> str:
        """Return that the runtime answers."""
        return await check_path(self._connection, self._health_path)

    async def close(self) -> None:
        """Close all connections."""
        await self._connection.close()
