"""Require a client key for the paths that need one, if the agent has keys."""

from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from agent_service.auth.clients import Clients
from agent_service.middleware.identify import CLIENT
from agent_service.paths import AGENT, Paths
from agent_service.telemetry.caller_metrics import CallerMetrics

_HINT = "send one of this agent's client keys as 'Authorization: Bearer <key>' or 'X-API-Key: <key>'."

_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "One of the agent's client keys (API_KEYS)."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same, in another header."},
}


class RequireKey:
    """Answers 401 to requests without a valid key (RFC 6750, 3), while the agent has keys."""

    def __init__(self, app: ASGIApp, *, clients: Clients, metrics: CallerMetrics, paths: Paths = AGENT) -> None:
        self.app = app
        self.metrics = metrics
        self.paths = paths
        self.clients = clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._lets_in(scope):
            await self.app(scope, receive, send)
            return
        challenge, reason = 'Bearer realm="agent"', "A key is required"
        refusal = scope[CLIENT].refusal
        if refusal is not None:
            challenge, reason = f'{challenge}, error="{refusal.kind}"', refusal.detail
        self.metrics.refused.labels("missing" if refusal is None else refusal.reason).inc()
        answer = JSONResponse(
            {"detail": f"{reason}: {_HINT}"}, status_code=401, headers={"WWW-Authenticate": challenge}
        )
        await answer(scope, receive, send)

    def _lets_in(self, scope: Scope) -> bool:
        return scope[CLIENT].known or self.paths.is_open(scope["path"]) or not self.clients.need_keys


def describe_keys(document: dict[str, Any], paths: Paths = AGENT) -> None:
    """Describe in an OpenAPI document which operations need a key, and how to send it."""
    document.setdefault("components", {})["securitySchemes"] = _SCHEMES
    for path, operations in document["paths"].items():
        if paths.is_open(path):
            continue
        for operation in operations.values():
            operation["security"] = [{name: []} for name in _SCHEMES]
            operation["responses"]["401"] = {"description": "The client key is missing or not valid."}
