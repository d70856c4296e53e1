"""Every request has an id: the caller's, or a new one. It is in the answer and in every log line of the request."""

import re
import uuid

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "X-Request-ID"
_NAME = HEADER.lower().encode()

# An id that a caller may choose. It goes into logs and headers: no spaces, no control characters, limited length.
_GOOD = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


class RequestId:
    """Binds `request_id` to the log context and answers with the header `X-Request-ID`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        received = next((value for name, value in scope["headers"] if name == _NAME), b"")
        request_id = received.decode("ascii") if _GOOD.fullmatch(received) else uuid.uuid4().hex
        header = (_NAME, request_id.encode("ascii"))

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self.app(scope, receive, send_with_id)
