"""No request body is read beyond what a message can take."""

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """Answers 413 to a body that says it is, or turns out to be, larger than `largest_bytes`."""

    def __init__(self, app: ASGIApp, *, largest_bytes: int) -> None:
        self.app = app
        self.largest_bytes = largest_bytes
        self.detail = f"The request body is larger than {largest_bytes} bytes."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        told = Headers(scope=scope).get("content-length", "")
        if told.isdecimal() and int(told) > self.largest_bytes:
            # Closed, because the rest of the body would otherwise have to be read to find the next request.
            answer = JSONResponse({"detail": self.detail}, status_code=413, headers={"Connection": "close"})
            await answer(scope, receive, send)
            return
        size = 0

        async def receive_limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self.largest_bytes:
                # FastAPI lets this one exception pass while it reads a body, and answers it like any other of its kind.
                raise HTTPException(413, self.detail)
            return message

        await self.app(scope, receive_limited, send)
