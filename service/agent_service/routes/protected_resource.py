"""The description of the agent for OAuth clients: who issues the tokens that it takes (RFC 9728)."""

from typing import Any

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import JSONResponse

from agent_service.middleware.require_key import base_of
from agent_service.paths import MCP, PROTECTED_RESOURCE
from agent_service.routes.dependencies import ComponentsDep

router = APIRouter(include_in_schema=False)

# The issuers can change while the agent runs. The answer has the address that the client used.
_HEADERS = {"Cache-Control": "public, max-age=60", "Vary": "Host, X-Forwarded-Proto"}


@router.get(PROTECTED_RESOURCE)
async def of_agent(request: Request, components: ComponentsDep) -> JSONResponse:
    """Return the description of the agent."""
    return _described(request, components, "")


@router.get(f"{PROTECTED_RESOURCE}{MCP}")
async def of_mcp(request: Request, components: ComponentsDep) -> JSONResponse:
    """Return the description of the MCP server, whose clients compare the address with the one that they call."""
    if not components.settings.api_mcp:
        raise HTTPException(404, "Not Found")
    return _described(request, components, MCP)


def _described(request: Request, components: ComponentsDep, path: str) -> JSONResponse:
    issuers = () if components.tokens is None else components.tokens.issuers
    scopes = sorted({scope for issuer in issuers for scope in issuer.required_scopes})
    document: dict[str, Any] = {
        "resource": base_of(request.scope) + path,
        "authorization_servers": [issuer.issuer for issuer in issuers],
        "bearer_methods_supported": ["header"],
        "resource_name": components.settings.agent_name,
    }
    return JSONResponse(document | ({"scopes_supported": scopes} if scopes else {}), headers=_HEADERS)
