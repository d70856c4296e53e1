"""An answer as server-sent events (WHATWG HTML, 9.2): each `data:` line one JSON object, comments as heartbeat."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from agent_service.agent.dialogue import Reply
from agent_service.agent.errors import ModelError
from agent_service.agent.turn import OnText
from agent_service.logs import where

_log = structlog.get_logger(__name__)

_HEARTBEAT = b": waiting for the model\n\n"

# Pieces that may wait for a slow client before the model's stream is held back.
_PENDING = 256

Item = str | Reply | Exception


class Turn:
    """A turn with the model in a task of its own, so that its silence can be noticed without disturbing it."""

    def __init__(self, reply: Callable[[OnText], Awaitable[Reply]]) -> None:
        self._items: asyncio.Queue[Item] = asyncio.Queue(_PENDING)
        self._task = asyncio.create_task(self._run(reply))

    async def next(self, patience: float) -> Item | None:
        """Give the next piece of text, at the end the reply or the error; None after `patience` seconds of silence."""
        if not self._items.empty():
            return self._items.get_nowait()
        try:
            async with asyncio.timeout(patience):
                return await self._items.get()
        except TimeoutError:
            return None

    def waiting(self) -> Item | None:
        """Give a piece that is there already, if any."""
        return None if self._items.empty() else self._items.get_nowait()

    def stop(self) -> None:
        """End the turn, and with it the call to the model; does nothing when it is over."""
        self._task.cancel()

    async def _run(self, reply: Callable[[OnText], Awaitable[Reply]]) -> None:
        try:
            end: Item = await reply(self._items.put)
        except ModelError as error:
            end = error
        except Exception as error:
            _log.error("Turn failed unexpectedly", error=type(error).__name__, where=where(error))
            end = error
        await self._items.put(end)


class EventStream(StreamingResponse):
    """The response for a turn whose first item is already known; the turn ends with the response."""

    def __init__(self, turn: Turn, first: Item | None, *, heartbeat_seconds: float) -> None:
        self._turn = turn
        # X-Accel-Buffering: nginx would otherwise hold events back until its buffer is full.
        super().__init__(
            _events(turn, first, heartbeat_seconds),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._turn.stop()


async def _events(turn: Turn, item: Item | None, heartbeat: float) -> AsyncIterator[bytes]:
    while True:
        if item is None:
            yield _HEARTBEAT
        else:
            # What has gathered meanwhile goes out in one write.
            block = [_encode(item)]
            while isinstance(item, str) and (more := turn.waiting()) is not None:
                item = more
                block.append(_encode(item))
            yield b"".join(block)
            if not isinstance(item, str):
                return
        item = await turn.next(heartbeat)


def _encode(item: Item) -> bytes:
    event: dict[str, object]
    if isinstance(item, str):
        event = {"type": "text", "content": item}
    elif isinstance(item, Reply):
        event = {
            "type": "done",
            "input_tokens": item.usage.input_tokens,
            "output_tokens": item.usage.output_tokens,
            "conversation_id": item.conversation_id,
        }
        if item.cut is not None:
            event["stop_reason"] = item.cut
        if item.warning is not None:
            event["warning"] = item.warning
    elif isinstance(item, ModelError):
        event = {"type": "error", "message": str(item)}
    else:
        event = {"type": "error", "message": "An internal error occurred."}
    # Escaped to ASCII: no line end of Unicode can break the framing, and half a surrogate pair stays sendable.
    return b"data: " + json.dumps(event, separators=(",", ":")).encode("ascii") + b"\n\n"
