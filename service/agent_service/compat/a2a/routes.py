"""The paths of A2A: the card, JSON-RPC and HTTP+JSON."""

import asyncio
import hashlib
import json
from typing import TYPE_CHECKING

from fastapi import APIRouter, HTTPException, Request, Response

from agent_service import __version__
from agent_service.agent.errors import ModelError
from agent_service.agent.tools import Tool
from agent_service.compat.a2a.card import REST_PATH, RPC_PATH, About, card
from agent_service.components import Components
from agent_service.middleware.require_key import base_of
from agent_service.paths import A2A_CARD
from agent_service.routes.dependencies import ComponentsDep

if TYPE_CHECKING:
    from agent_service.compat.a2a.server import Server

router = APIRouter(include_in_schema=False)

# A server of tools that does not answer must not keep clients from the card.
_TOOLS_SECONDS = 2.0
# Tools can change while the agent runs.
_CACHE = "public, max-age=60"

_METHODS = ["GET", "POST", "DELETE"]


@router.get(A2A_CARD)
async def show_card(request: Request, components: ComponentsDep) -> Response:
    """Return the agent card."""
    settings = components.settings
    found = card(
        About(settings.agent_name, __version__, settings.agent_description),
        base_of(request.scope),
        await _tools(components),
        needs_keys=components.clients.need_keys,
    )
    body = json.dumps(found, ensure_ascii=False).encode()
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    # The card has the address that the client used.
    headers = {"Cache-Control": _CACHE, "ETag": tag, "Vary": "Host, X-Forwarded-Proto"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


# Some HTTP clients add a slash to the address of the card.
@router.post(RPC_PATH)
@router.post(f"{RPC_PATH}/")
async def rpc(request: Request, components: ComponentsDep) -> Response:
    """Answer a request of JSON-RPC."""
    return await (await _server(request, components)).rpc(request)


@router.api_route(f"{REST_PATH}/{{path:path}}", methods=_METHODS)
async def rest(request: Request, components: ComponentsDep) -> Response:
    """Answer a request of HTTP+JSON."""
    answer = await (await _server(request, components)).rest(request)
    if answer is None:
        raise HTTPException(404, "The agent has no such method of A2A over HTTP+JSON; see the agent card.")
    return answer


async def _tools(components: Components) -> list[Tool]:
    if components.toolbox is None:
        return []
    try:
        async with asyncio.timeout(_TOOLS_SECONDS):
            return list(await components.toolbox.tools())
    except (ModelError, TimeoutError):
        return []


async def _server(request: Request, components: Components) -> "Server":
    state = request.app.state
    found: Server | None = getattr(state, "a2a", None)
    if found is None:
        # In a thread, so that the requests of other clients go on.
        kind = await asyncio.to_thread(_import_server)
        # Several first requests may be here at once.
        found = state.a2a = getattr(state, "a2a", None) or kind(components)
    return found


def _import_server() -> "type[Server]":
    # It takes half a second and 14 MiB, which an agent that no client of A2A calls does not spend.
    from agent_service.compat.a2a.server import Server  # noqa: PLC0415

    return Server
