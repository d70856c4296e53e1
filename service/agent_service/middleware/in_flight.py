"""As much work as this process can do well, and none that is new while it drains."""

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from agent_service.lifecycle import Lifecycle
from agent_service.metrics import Metrics
from agent_service.middleware.paths import PROBES

_DRAINING = "This instance is shutting down; send the request again."
_OVERLOADED = "This instance has as many requests in flight as it takes; send the request again in a moment."


class InFlight:
    """Counts the requests in flight, and answers 503 to new ones above `most` and while draining."""

    def __init__(self, app: ASGIApp, *, lifecycle: Lifecycle, metrics: Metrics, most: int) -> None:
        self.app = app
        self.lifecycle = lifecycle
        self.metrics = metrics
        self.most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self.app(scope, receive, send)
            return
        if self.lifecycle.draining:
            await self._shed("draining", _DRAINING)(scope, receive, send)
            return
        if self.lifecycle.in_flight >= self.most:
            await self._shed("overload", _OVERLOADED)(scope, receive, send)
            return
        self.lifecycle.in_flight += 1
        self.metrics.in_flight.inc()
        try:
            await self.app(scope, receive, send)
        finally:
            self.lifecycle.in_flight -= 1
            self.metrics.in_flight.dec()

    def _shed(self, reason: str, detail: str) -> JSONResponse:
        self.metrics.shed.labels(reason).inc()
        # The connection is closed, so that the next request of a pooled client goes to another pod.
        headers = {"Retry-After": "1", "Connection": "close"}
        return JSONResponse({"detail": detail}, status_code=503, headers=headers)
