"""Require a client key or a token for the paths that need one, if the agent has keys or issuers."""

from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from agent_service.auth.clients import Clients
from agent_service.auth.identity import Refusal
from agent_service.middleware.identify import CLIENT
from agent_service.paths import AGENT, Paths
from agent_service.telemetry.caller_metrics import CallerMetrics

# For a token that cannot be verified yet.
_RETRY_SECONDS = 5

_REALM = 'Bearer realm="agent"'

_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A client key (API_KEYS), or a token of an issuer (JWT_FILE).",
    },
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same, in another header."},
}


class RequireKey:
    """Refuses requests without a valid key or token (RFC 6750, 3), while the agent has keys or issuers.

    Answers 401; 403 if the token lacks a scope; 503 if it cannot be verified yet.
    """

    def __init__(self, app: ASGIApp, *, clients: Clients, metrics: CallerMetrics, paths: Paths = AGENT) -> None:
        self.app = app
        self.metrics = metrics
        self.paths = paths
        self.clients = clients

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self._lets_in(scope):
            await self.app(scope, receive, send)
            return
        await self._refuse(scope[CLIENT].refusal)(scope, receive, send)

    def _refuse(self, refusal: Refusal | None) -> JSONResponse:
        self.metrics.refused.labels("missing" if refusal is None else refusal.reason).inc()
        if refusal is None:
            return _challenge(401, _REALM, f"A key is required: {self.clients.accepted}")
        if refusal.kind == "unavailable":
            headers = {"Retry-After": str(_RETRY_SECONDS)}
            return JSONResponse({"detail": f"{refusal.detail}."}, status_code=503, headers=headers)
        challenge = f'{_REALM}, error="{refusal.kind}", error_description="{refusal.detail}"'
        if refusal.kind == "insufficient_scope":
            return _challenge(403, f'{challenge}, scope="{refusal.scope}"', f"{refusal.detail}.")
        return _challenge(401, challenge, f"{refusal.detail}: {self.clients.accepted}")

    def _lets_in(self, scope: Scope) -> bool:
        return scope[CLIENT].known or self.paths.is_open(scope["path"]) or not self.clients.need_keys


def _challenge(status: int, challenge: str, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status_code=status, headers={"WWW-Authenticate": challenge})


def describe_keys(document: dict[str, Any], paths: Paths = AGENT) -> None:
    """Describe in an OpenAPI document which operations need a key, and how to send it."""
    document.setdefault("components", {})["securitySchemes"] = _SCHEMES
    for path, operations in document["paths"].items():
        if paths.is_open(path):
            continue
        for operation in operations.values():
            operation["security"] = [{name: []} for name in _SCHEMES]
            operation["responses"]["401"] = {"description": "The client key or token is missing or not valid."}
