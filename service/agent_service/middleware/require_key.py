"""Require a client key or a token for the paths that need one, if the agent has keys or issuers."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from agent_service.auth.clients import Clients
from agent_service.auth.identity import Refusal
from agent_service.middleware.identify import CLIENT
from agent_service.paths import AGENT, MCP, PROTECTED_RESOURCE, Paths
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

    With issuers, the challenge names the description of the agent, from which clients learn who issues tokens (RFC
    9728, 5.1). Answers 401; 403 if the token lacks a scope; 503 if it cannot be verified yet.
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
        await self._refuse(scope, scope[CLIENT].refusal)(scope, receive, send)

    def _refuse(self, scope: Scope, refusal: Refusal | None) -> JSONResponse:
        self.metrics.refused.labels("missing" if refusal is None else refusal.reason).inc()
        if refusal is None:
            return self._challenge(scope, 401, _REALM, f"A key is required: {self.clients.accepted}")
        if refusal.kind == "unavailable":
            headers = {"Retry-After": str(_RETRY_SECONDS)}
            return JSONResponse({"detail": f"{refusal.detail}."}, status_code=503, headers=headers)
        challenge = f'{_REALM}, error="{refusal.kind}", error_description="{refusal.detail}"'
        if refusal.kind == "insufficient_scope":
            return self._challenge(scope, 403, f'{challenge}, scope="{refusal.scope}"', f"{refusal.detail}.")
        return self._challenge(scope, 401, challenge, f"{refusal.detail}: {self.clients.accepted}")

    def _challenge(self, scope: Scope, status: int, challenge: str, detail: str) -> JSONResponse:
        # A runtime with the protocol `http` has the path of the description itself.
        if self.clients.have_issuers and self.paths.has_protocols:
            described = PROTECTED_RESOURCE + (MCP if self.paths.protocol(scope["path"]) == "mcp" else "")
            challenge = f'{challenge}, resource_metadata="{base_of(scope)}{described}"'
        return JSONResponse({"detail": detail}, status_code=status, headers={"WWW-Authenticate": challenge})

    def _lets_in(self, scope: Scope) -> bool:
        return scope[CLIENT].known or self.paths.is_open(scope["path"]) or not self.clients.need_keys


def base_of(scope: Scope) -> str:
    """Return the address of the agent that the client of a request used, without a path."""
    url = Request(scope).url
    return f"{url.scheme}://{url.netloc}"


def describe_keys(document: dict[str, Any], paths: Paths = AGENT) -> None:
    """Describe in an OpenAPI document which operations need a key, and how to send it."""
    document.setdefault("components", {})["securitySchemes"] = _SCHEMES
    for path, operations in document["paths"].items():
        if paths.is_open(path):
            continue
        for operation in operations.values():
            operation["security"] = [{name: []} for name in _SCHEMES]
            operation["responses"]["401"] = {"description": "The client key or token is missing or not valid."}
