"""Count, time and log every request by the template of its route. Its path, query and body are in no label."""

import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent_service.auth.identity import Client
from agent_service.middleware.identify import CLIENT
from agent_service.telemetry.exposition import exemplar
from agent_service.telemetry.metrics import Metrics

_log = structlog.get_logger(__name__)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

# Kubernetes and Prometheus send requests every few seconds. At INFO, their lines would bury all other lines.
_ROUTINE = ("/health", "/metrics")


# A WebSocket lasts as long as its two ends like. Its duration would hide those of the requests of the same route.
_SWITCHED = 101

# The statuses that alerts count as failures, by route. `unmatched` is for requests that are shed unread.
_FAILURES = {
    "/chat": ("500", "502", "503", "504"),
    "/chat/stream": ("500", "502", "503", "504"),
    "/v1/chat/completions": ("500", "502", "503", "504"),
    "/v1/responses": ("500", "502", "503", "504"),
    "/v1/messages": ("500", "502", "503", "504"),
    "/tasks": ("500", "503"),
    "unmatched": ("503",),
}


class Observe:
    """Fills the HTTP metrics and logs one line for each request."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics
        # Created at the start: Prometheus sees no increase in a series that first appears with a value.
        for route, statuses in _FAILURES.items():
            for status in statuses:
                metrics.http_requests.labels("POST", route, status)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500
        started = time.perf_counter()

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_and_note)
        finally:
            self._note(scope, status, time.perf_counter() - started)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        route = getattr(scope.get("route"), "path", "unmatched")
        self.metrics.http_requests.labels(method, route, str(status)).inc()
        if status != _SWITCHED:
            self.metrics.http_duration.labels(method, route).observe(seconds, exemplar())
        write = _log.debug if route.startswith(_ROUTINE) else _log.info
        client: Client | None = scope.get(CLIENT)
        # Not in the context of this line, which is that of the request before its client was identified.
        named = {}
        if client is not None and client.known:
            named = {"client": client.shown}
            self.metrics.callers.count(client.label)
        write("Request answered", method=method, route=route, status=status, seconds=round(seconds, 4), **named)
