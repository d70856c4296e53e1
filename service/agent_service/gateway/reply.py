"""An answer on its way to the caller, from the model API or from the echo."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import aiohttp
from multidict import CIMultiDict

from agent_service.agent.claude.endpoint import Framing

EVENTS = "text/event-stream"
_FIRST_ERROR = 400


@dataclass(slots=True)
class Reply:
    """An answer: its status, headers and bytes.

    `length` is the number of bytes if it is known. `close` ends the answer where it is, and with it the model's work.
    With fallbacks, `provider` and `model` are those that answer, and `given_up` the providers that may have read the
    question and took too long.
    """

    status: int
    headers: CIMultiDict[str]
    chunks: AsyncIterator[bytes]
    close: Callable[[], None]
    length: int | None = None
    provider: str | None = None
    model: str | None = None
    given_up: tuple[str, ...] = ()

    @property
    def events(self) -> bool:
        """Whether the answer is a stream of events."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower() == EVENTS

    @property
    def ok(self) -> bool:
        """Whether the call succeeded."""
        return self.status < _FIRST_ERROR


async def single(content: bytes) -> AsyncIterator[bytes]:
    """Yield one piece."""
    yield content


def nothing() -> None:
    """Do nothing, to close an answer that is already complete."""


async def unpacked(chunks: AsyncIterator[bytes], framing: Framing) -> AsyncIterator[bytes]:
    """Yield the events of a stream. One that cannot be unpacked ends as if its connection had failed."""
    async for chunk in chunks:
        try:
            events = framing(chunk)
        except ValueError as error:
            raise aiohttp.ClientPayloadError(str(error)) from error
        if events:
            yield events
