"""Limit the size of a request body to what a message needs, and its transfer to the time that an answer may take."""

import asyncio

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent_service.paths import AGENT, Paths

# The connection is closed after the answer. Otherwise the rest of the body would have to be read to find the next
# request.
_CLOSE = {"Connection": "close"}

# What the bodies above the usual size may take together in one process. Each is held while it is answered, in several
# forms, and a pod has 512 MiB.
_ROOM_BYTES = 32 * 2**20
_NO_ROOM = "This instance has too many large requests in flight; send the request again in a moment."


class BodyLimit:
    """Answers 413 to a body larger than `largest_bytes`, received or announced, and 408 to one that is too slow."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        largest_bytes: int,
        seconds: float,
        largest_of_protocols: int = 0,
        paths: Paths = AGENT,
    ) -> None:
        """Wrap the app. `largest_of_protocols` is the bound, in bytes, on the paths of other clients' protocols."""
        self.app = app
        self.paths = paths
        self.largest_bytes = largest_bytes
        self.largest_of_protocols = largest_of_protocols or largest_bytes
        self.seconds = seconds
        self.too_slow = f"The request body did not arrive within {seconds:g} seconds."
        self.room = max(_ROOM_BYTES, self.largest_of_protocols)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        largest = self.largest_bytes if self.paths.protocol(scope["path"]) is None else self.largest_of_protocols
        too_large = f"The request body is larger than {largest} bytes."
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if announced.isdigit() and int(announced) > largest:
            await JSONResponse({"detail": too_large}, status_code=413, headers=_CLOSE)(scope, receive, send)
            return
        size = held = 0
        whole = False
        deadline = asyncio.get_running_loop().time() + self.seconds

        async def receive_limited() -> Message:
            nonlocal size, whole, held
            if whole:
                # The next event is the disconnect. A stream waits for it until the stream ends.
                return await receive()
            # FastAPI does not catch an HTTPException while it reads a body, and answers it like any other.
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, self.too_slow, headers=_CLOSE) from None
            size += len(message.get("body", b""))
            if size > largest:
                raise HTTPException(413, too_large, headers=_CLOSE)
            if size > self.largest_bytes:
                if size - held > self.room:
                    raise HTTPException(503, _NO_ROOM, headers={**_CLOSE, "Retry-After": "1"})
                self.room -= size - held
                held = size
            whole = not message.get("more_body", False)
            return message

        try:
            await self.app(scope, receive_limited, send)
        finally:
            self.room += held
