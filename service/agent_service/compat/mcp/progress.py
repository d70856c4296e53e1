"""Progress notifications of an answer, for a client that asks for them (MCP, "Progress")."""

import time
from typing import TYPE_CHECKING

from agent_service.agent.tools import Piece, ToolResult, ToolUse

if TYPE_CHECKING:
    from mcp.server.session import ServerSession

# Text arrives in many pieces per second; a person who reads along needs no more notifications than this.
_TEXT_SECONDS = 0.25
_LONGEST_TEXT = 500


class Progress:
    """Reports the tools that are called, and the end of the text so far. `progress` is the time in seconds."""

    def __init__(self, session: "ServerSession") -> None:
        self._session = session
        self._started = time.monotonic()
        self._last = 0.0
        self._text = ""

    async def piece(self, piece: Piece) -> None:
        """Report a piece of the answer. Text is reported at intervals."""
        if isinstance(piece, ToolUse):
            await self._send(f"Calling the tool {piece.name}")
        elif isinstance(piece, ToolResult):
            await self._send("The tool failed" if piece.is_error else "The tool has answered")
        else:
            self._text = (self._text + piece)[-_LONGEST_TEXT:]
            if not self._last or self._elapsed() - self._last >= _TEXT_SECONDS:
                await self._send(self._text)

    async def beat(self) -> None:
        """Report that the turn is in progress."""
        await self._send(self._text or "The agent is working")

    async def _send(self, message: str) -> None:
        # It must increase with each notification.
        self._last = max(self._elapsed(), self._last + 0.001)
        await self._session.report_progress(round(self._last, 3), message=message)

    def _elapsed(self) -> float:
        return time.monotonic() - self._started
