"""Limit the size of a request body to what a message needs, and its transfer to the time that an answer may take."""

import asyncio

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# The connection is closed after the answer. Otherwise the rest of the body would have to be read to find the next
# request.
_CLOSE = {"Connection": "close"}


class BodyLimit:
    """Answers 413 to a body larger than `largest_bytes`, received or announced, and 408 to one that is too slow."""

    def __init__(self, app: ASGIApp, *, largest_bytes: int, seconds: float) -> None:
        self.app = app
        self.largest_bytes = largest_bytes
        self.seconds = seconds
        self.too_large = f"The request body is larger than {largest_bytes} bytes."
        self.too_slow = f"The request body did not arrive within {seconds:g} seconds."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        if announced.isdigit() and int(announced) > self.largest_bytes:
            await JSONResponse({"detail": self.too_large}, status_code=413, headers=_CLOSE)(scope, receive, send)
            return
        size = 0
        whole = False
        deadline = asyncio.get_running_loop().time() + self.seconds

        async def receive_limited() -> Message:
            nonlocal size, whole
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
            if size > self.largest_bytes:
                raise HTTPException(413, self.too_large, headers=_CLOSE)
            whole = not message.get("more_body", False)
            return message

        await self.app(scope, receive_limited, send)
