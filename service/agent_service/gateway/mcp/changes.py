"""Notices when the list of tools changes, while a client waits for that."""

import asyncio
from collections.abc import Callable, Sequence

from mcp.server.subscriptions import InMemorySubscriptionBus, ServerEvent, ToolsListChanged

from agent_service.agent.errors import ModelError
from agent_service.agent.tools import Tool, Toolbox

_INTERVAL_SECONDS = 1.0


class Changes(InMemorySubscriptionBus):
    """Publishes an event after a change. A list that is compared at intervals is in memory, so that costs little."""

    def __init__(self, toolbox: Toolbox) -> None:
        """Take the tools, whose list is looked at only while there are listeners."""
        super().__init__()
        self._toolbox = toolbox
        self._listening = 0
        self._any = asyncio.Event()

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Call `listener` after each change, until the function that is returned is called."""
        unsubscribe = super().subscribe(listener)
        left = False
        self._listening += 1
        self._any.set()

        def end() -> None:
            nonlocal left
            if left:
                return
            left = True
            unsubscribe()
            self._listening -= 1
            if not self._listening:
                self._any.clear()

        return end

    async def watch(self) -> None:
        """Publish changes until it is cancelled."""
        while True:
            await self._any.wait()
            known = await self._tools()
            while self._listening:
                await asyncio.sleep(_INTERVAL_SECONDS)
                now = await self._tools()
                if now != known:
                    known = now
                    await self.publish(ToolsListChanged())

    async def _tools(self) -> Sequence[Tool]:
        try:
            return list(await self._toolbox.tools())
        except ModelError:
            # The list is an error then, so it has changed, too.
            return []
