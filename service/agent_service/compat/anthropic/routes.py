"""`POST /v1/messages` and `POST /v1/messages/count_tokens`."""

import orjson
import structlog
from fastapi import APIRouter, Request, Response

from agent_service.agent.fallbacks.several import PROVIDER_HEADER
from agent_service.compat import asking
from agent_service.compat.anthropic.answer import Content, Servers
from agent_service.compat.anthropic.request import ThreadError, read_request
from agent_service.compat.anthropic.stream import MessageForm
from agent_service.compat.anthropic.tools import Allowed
from agent_service.components import Components
from agent_service.routes.dependencies import ComponentsDep, owner
from agent_service.routes.disconnect import CLIENT_CLOSED_REQUEST, ClientGoneError

# Anthropic documents this API, and its clients do not read ours.
router = APIRouter(include_in_schema=False)


@router.post("/v1/messages")
async def create(request: Request, components: ComponentsDep) -> Response:
    """Answer the messages of a client, as one message or as events."""
    try:
        asked = read_request(await request.body(), _allowed(components))
    except ThreadError as error:
        return _refused(error)
    question = asking.question(request, components, asked.message, asked.details)
    turn = asking.turn(request, components, question, asked.paused, streamed=asked.streamed)
    servers = await _servers(components)
    name = components.settings.agent_name
    if asked.streamed:
        form = MessageForm(name, servers, asking.tokens(asked.message, asked.details))
        return asking.stream(components, turn, form)
    content = Content(servers)
    try:
        reply = await asking.whole(request, turn, content.add)
    except ClientGoneError:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    answer = _json(content.whole(reply, name))
    if reply.usage.provider is not None:
        answer.headers[PROVIDER_HEADER] = reply.usage.provider
    return answer


@router.post("/v1/messages/count_tokens")
async def count_tokens(request: Request, components: ComponentsDep) -> Response:
    """Count the tokens that the model would receive: also those of the agent's own prompt and tools."""
    asked = read_request(await request.body(), _allowed(components), counts=True)
    question = asking.question(request, components, asked.message, asked.details)
    estimate = asking.tokens(asked.message, asked.details)
    return _json({"input_tokens": await components.dialogue.count(owner(request), question, estimate)})


def _allowed(components: Components) -> Allowed:
    toolbox = components.toolbox
    known = toolbox.server_tools if toolbox is not None else ()
    return Allowed(components.settings.api_client_tools, frozenset(str(tool.get("type")) for tool in known))


async def _servers(components: Components) -> Servers:
    found = await components.toolbox.tools() if components.toolbox is not None else ()
    return Servers({tool.name: tool.server for tool in found}, components.settings.agent_name)


def _refused(error: ThreadError) -> Response:
    """Return an error with details, which no other error of this API has."""
    about = {"type": "invalid_request_error", "message": str(error), "details": {"error_code": error.code}}
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    return _json({"type": "error", "error": about, "request_id": request_id}, status=400)


def _json(body: object, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
