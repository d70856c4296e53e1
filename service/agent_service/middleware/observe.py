"""Every request is counted, timed and logged, by its route's template; its path, query and body are in no label."""

import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent_service.telemetry.exposition import exemplar
from agent_service.telemetry.metrics import Metrics

_log = structlog.get_logger(__name__)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

# Kubernetes and Prometheus ask every few seconds; at INFO their lines would bury all others.
_ROUTINE = ("/health", "/metrics")


# What is a failure to the alerts, by route: `unmatched` is what is shed unread.
_FAILURES = {
    "/chat": ("500", "502", "503", "504"),
    "/chat/stream": ("500", "502", "503", "504"),
    "/tasks": ("500", "503"),
    "unmatched": ("503",),
}


class Observe:
    """Fills the HTTP metrics and writes one line for each request."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics
        # From the start: of a series that is born with a value, Prometheus sees no increase.
        for route, statuses in _FAILURES.items():
            for status in statuses:
                metrics.http_requests.labels("POST", route, status)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500
        begun = time.perf_counter()

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_and_note)
        finally:
            self._note(scope, status, time.perf_counter() - begun)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        route = getattr(scope.get("route"), "path", "unmatched")
        self.metrics.http_requests.labels(method, route, str(status)).inc()
        self.metrics.http_duration.labels(method, route).observe(seconds, exemplar())
        write = _log.debug if route.startswith(_ROUTINE) else _log.info
        write("Request answered", method=method, route=route, status=status, seconds=round(seconds, 4))
