"""`POST /v1/responses`. Not in the OpenAPI document, like the other routes of this protocol."""

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from agent_service.chat import approval_record
from agent_service.chat.approval_errors import UnknownApprovalError
from agent_service.chat.approval_record import parse_call_id
from agent_service.chat.conversations import new_id
from agent_service.compat import asking
from agent_service.compat.openai import ids
from agent_service.compat.openai.answering import Turn, answered, stream, whole
from agent_service.compat.openai.errors import InvalidRequestError
from agent_service.compat.openai.fields import read_body
from agent_service.compat.openai.output import Output
from agent_service.compat.openai.responses_answer import ResponseForm
from agent_service.compat.openai.responses_request import (
    ResponseRequest,
    not_last,
    read_response_request,
    unknown_conversation,
    unknown_response,
)
from agent_service.components import Components
from agent_service.routes.dependencies import ComponentsDep, owner, token

router = APIRouter(include_in_schema=False)


@router.post("/v1/responses")
async def responses(request: Request, components: ComponentsDep) -> Response:
    """Answer an input, as one response or as events."""
    return await answered(_response(request, components))


async def _response(request: Request, components: Components) -> Response:
    settings = components.settings
    asked = read_response_request(read_body(await request.body()), takes_tools=settings.api_client_tools)
    place, turn = await (_decide if asked.decisions else _ask)(request, components, asked)
    keeps = asked.details.earlier is None
    more = {**asked.echo, "conversation": {"id": ids.conversation_of(place.conversation_id)} if keeps else None}
    form = ResponseForm(place.response_id(), settings.agent_name, _output(components, asked, place), more)
    if asked.stream:
        return stream(components, turn, form)
    return JSONResponse(form.whole(await whole(request, turn, form.note)))


async def _ask(request: Request, components: Components, asked: ResponseRequest) -> tuple[ids.Place, Turn]:
    """Return the place of a new message, and its turn."""
    caller = owner(request)
    conversation_id = asked.conversation_id
    if asked.previous is not None:
        conversation_id = asked.previous.conversation_id
    if conversation_id is not None:
        await _check(components, caller, conversation_id, asked)
    place = ids.place_of(conversation_id or new_id(), asked.message)
    question = asking.question(
        request,
        components,
        asked.message,
        asked.details,
        conversation_id=conversation_id,
        new_id=place.conversation_id,
    )
    return place, partial(components.dialogue.reply, caller, question, streamed=asked.stream)


async def _check(components: Components, caller: str, conversation_id: str, asked: ResponseRequest) -> None:
    """Refuse to continue a conversation that is unknown, or has gone on."""
    last = await components.dialogue.last_message(caller, conversation_id)
    if asked.previous is None:
        if last is None:
            raise unknown_conversation(ids.conversation_of(conversation_id))
        return
    name = str(asked.echo["previous_response_id"])
    if last is None:
        raise unknown_response(name)
    # A turn that waits is not in the conversation yet.
    if ids.place_of(conversation_id, last) != asked.previous and not await components.approvals.waited_in(
        conversation_id, caller
    ):
        raise not_last(name)


async def _decide(request: Request, components: Components, asked: ResponseRequest) -> tuple[ids.Place, Turn]:
    """Decide on the calls of a turn that waits, and return its place and the rest of it."""
    caller = owner(request)
    first = asked.decisions[0]
    turn_id, _ = parse_call_id(first.call)
    if any(parse_call_id(each.call)[0] != turn_id or each.place != first.place for each in asked.decisions):
        raise InvalidRequestError(
            "Invalid 'input': the decisions must be on calls of the same response.", "input", code="invalid_value"
        )
    # Before the decisions: a call of another client's turn is as unknown as one that does not exist.
    waiting = await components.approvals.of_turn(turn_id)
    if any(call.owner != caller for call in waiting):
        raise UnknownApprovalError
    where = approval_record.Place("chat", first.place.conversation_id)
    for each in asked.decisions:
        await components.approvals.decide(each.call, where, caller, approve=each.approve, reason=each.reason)
    conversation_id, used = first.place.conversation_id, token(request, components)
    turn = partial(components.dialogue.go_on, caller, conversation_id, turn_id, streamed=asked.stream, token=used)
    return first.place, turn


def _output(components: Components, asked: ResponseRequest, place: ids.Place) -> Output:
    toolbox = components.toolbox

    def server_of(name: str) -> str | None:
        found = None if toolbox is None else toolbox.find(name)
        return None if found is None else found.server

    def asks(name: str) -> bool:
        found = None if toolbox is None else toolbox.find(name)
        return found is not None and found.asks

    tools = [tool["name"] for tool in asked.details.tools]
    return Output(place, client_tools=tools, server_of=server_of, asks=asks)
