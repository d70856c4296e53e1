"""While the process drains, work in flight goes on and new work is sent elsewhere."""

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from agent_service.lifecycle import Lifecycle

# Probes and scrapes: they are answered to the last, and nobody waits for them at the end.
_NOT_WORK = ("/health", "/metrics")


class Drain:
    """Counts the requests in flight, and answers 503 to new ones while draining."""

    def __init__(self, app: ASGIApp, *, lifecycle: Lifecycle) -> None:
        self.app = app
        self.lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_NOT_WORK):
            await self.app(scope, receive, send)
            return
        if self.lifecycle.draining:
            # The connection is closed, so that the next request of a pooled client goes to another pod.
            answer = JSONResponse(
                {"detail": "This instance is shutting down; send the request again."},
                status_code=503,
                headers={"Retry-After": "1", "Connection": "close"},
            )
            await answer(scope, receive, send)
            return
        self.lifecycle.in_flight += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.lifecycle.in_flight -= 1
