"""One request to `/mcp`: its session, and the turn that it asks for."""

import asyncio
from dataclasses import dataclass
from typing import cast

from starlette.types import Scope

from agent_service.chat.dialogue import Reply

_KEY = "portside.mcp"


@dataclass(slots=True)
class Exchange:
    """A request. `session` relates cancellations to it; empty if none can arrive."""

    session: str
    call: "asyncio.Task[Reply] | None" = None

    def end(self) -> None:
        """End the turn: the response has ended, or the client has disconnected."""
        if self.call is not None:
            self.call.cancel()

    def keep_in(self, scope: Scope) -> None:
        """Keep this where `exchange_of` finds it."""
        scope[_KEY] = self


def exchange_of(scope: Scope) -> Exchange:
    """Return the exchange of a request."""
    return cast("Exchange", scope[_KEY])
