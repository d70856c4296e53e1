"""Enforce the limits of clients, tenants and the whole agent, and report those of requests in every answer."""

import math

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent_service.auth.identity import Client
from agent_service.limits.limits import Limits, Verdict
from agent_service.middleware.identify import CLIENT
from agent_service.paths import AGENT, Paths
from agent_service.telemetry.metrics import Metrics

HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
_NAMES = tuple(name.lower().encode() for name in HEADERS)


class RateLimit:
    """Answers 429 beyond the limits. Probes, scrapes and the files of the chat page are not limited."""

    def __init__(self, app: ASGIApp, *, limits: Limits, metrics: Metrics, paths: Paths = AGENT) -> None:
        self.app = app
        self.paths = paths
        self.limits = limits
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self.paths.is_limited(scope["path"]) or not self.limits.on:
            await self.app(scope, receive, send)
            return
        takes_tokens = self.paths.asks_the_model(scope["method"], scope["path"])
        queues = self.paths.accepts_tasks(scope["method"], scope["path"])
        client: Client = scope[CLIENT]
        owner = client.id if client.known else None
        verdict = await self.limits.admit(client.id, takes_tokens=takes_tokens, queues=queues, owner=owner)
        headers = self._headers(verdict)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *headers]
            await send(message)

        if verdict.refused is None:
            await self.app(scope, receive, send_with_headers)
            return
        self.metrics.rate_limited.labels(verdict.refused).inc()
        await self._refuse(verdict)(scope, receive, send_with_headers)

    def _headers(self, verdict: Verdict) -> list[tuple[bytes, bytes]]:
        if not verdict.limit:
            return []
        values = (verdict.limit, verdict.left, math.ceil(verdict.reset / 1000))
        return [(name, str(value).encode()) for name, value in zip(_NAMES, values, strict=True)]

    def _refuse(self, verdict: Verdict) -> JSONResponse:
        detail, seconds = self.limits.explain(verdict)
        return JSONResponse({"detail": detail}, status_code=429, headers={"Retry-After": str(seconds)})
