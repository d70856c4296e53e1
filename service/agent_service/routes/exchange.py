"""A request that is passed on while it arrives, and its answer."""

import asyncio
from collections.abc import AsyncIterator

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from agent_service.routes.disconnect import ClientGoneError


class Exchange:
    """A request's body and its answer. `fault` is what was wrong with the body, or that its sender has left."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, length: int | None) -> None:
        """Take the request with the length of its body; None if it is chunked."""
        self.method: str = scope["method"]
        self.length = length
        self._receive = receive
        self._send = send
        self._whole = asyncio.Event()
        self.has_body = length != 0
        self.started = False
        self.fault: HTTPException | ClientGoneError | None = None
        if not self.has_body:
            self._whole.set()

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives, and only as fast as the runtime takes it."""
        more = True
        while more:
            try:
                message = await self._receive()
            except HTTPException as error:
                self.fault = error
                raise
            if message["type"] == "http.disconnect":
                self.fault = ClientGoneError()
                raise self.fault
            more = message.get("more_body", False)
            if message.get("body"):
                yield message["body"]
        self._whole.set()

    async def after_body(self) -> Message:
        """Return the next message after the body, such as the disconnect."""
        await self._whole.wait()
        return await self._receive()

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Send the status and the headers."""
        self.started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes, *, more: bool = True) -> None:
        """Send a part of the body, when the client has read enough of the previous ones."""
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def end(self, status: int) -> None:
        """Answer with a status and no body."""
        await self.start(status, [(b"content-length", b"0")])
        await self.write(b"", more=False)
