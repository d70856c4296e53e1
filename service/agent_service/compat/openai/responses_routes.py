"""`POST /v1/responses`. Not in the OpenAPI document, like the other routes of this protocol."""

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from agent_service.chat import approval_record
from agent_service.chat.approval_errors import UnknownApprovalError
from agent_service.chat.approval_record import parse_call_id
from agent_service.chat.conversations import new_id
from agent_service.compat import asking
from agent_service.compat.asking import Turn, stream, whole
from agent_service.compat.openai import ids
from agent_service.compat.openai.answering import answered
from agent_service.compat.openai.background_routes import decide_in_background, in_background
from agent_service.compat.openai.errors import InvalidRequestError
from agent_service.compat.openai.fields import read_body
from agent_service.compat.openai.making import make_form
from agent_service.compat.openai.responses_request import (
    ResponseRequest,
    in_progress,
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
    """Answer an input, as one response or as events, at once or in the background."""
    return await answered(_response(request, components))


async def _response(request: Request, components: Components) -> Response:
    takes_tools = components.settings.api_client_tools
    asked = read_response_request(read_body(await request.body()), takes_tools=takes_tools)
    if asked.decisions:
        return await _decide(request, components, asked)
    conversation_id = await _conversation(components, owner(request), asked)
    if asked.background:
        return await in_background(request, components, asked, conversation_id)
    place = ids.place_of(conversation_id or new_id(), asked.message)
    question = asking.question(
        request,
        components,
        asked.message,
        asked.details,
        conversation_id=conversation_id,
        new_id=place.conversation_id,
    )
    turn = partial(components.dialogue.reply, owner(request), question, streamed=asked.stream)
    return await _answer(request, components, asked, place, turn)


async def _answer(
    request: Request, components: Components, asked: ResponseRequest, place: ids.Place, turn: Turn
) -> Response:
    keeps = asked.details.earlier is None
    more = {**asked.echo, "conversation": {"id": ids.conversation_of(place.conversation_id)} if keeps else None}
    form = make_form(components, place, more, client_tools=[tool["name"] for tool in asked.details.tools])
    if asked.stream:
        return stream(components, turn, form)
    return JSONResponse(form.whole(await whole(request, turn, form.note)))


async def _conversation(components: Components, caller: str, asked: ResponseRequest) -> str | None:
    """Return the id of the conversation to continue; None for a new one.

    Raises:
        InvalidRequestError: if it is unknown, or has gone on since the previous response.
    """
    if asked.conversation_id is not None:
        if await components.dialogue.last_message(caller, asked.conversation_id) is None:
            raise unknown_conversation(ids.conversation_of(asked.conversation_id))
        return asked.conversation_id
    if asked.previous is None:
        return None
    name = str(asked.echo["previous_response_id"])
    place = asked.previous
    if isinstance(place, ids.TaskPlace):
        task = await components.tasks.get(caller, place.task_id)
        if task is None:
            raise unknown_response(name)
        if task.status in {"pending", "running"}:
            raise in_progress(name)
        place = ids.place_of(task.conversation_id, task.message)
    last = await components.dialogue.last_message(caller, place.conversation_id)
    if last is None:
        raise unknown_response(name)
    # A turn that waits is not in the conversation yet.
    if ids.place_of(place.conversation_id, last) != place and not await components.approvals.waited_in(
        place.conversation_id, caller
    ):
        raise not_last(name)
    return place.conversation_id


async def _decide(request: Request, components: Components, asked: ResponseRequest) -> Response:
    """Decide on the calls of a turn that waits, and return the rest of it."""
    caller = owner(request)
    first = asked.decisions[0]
    turn_id, _ = parse_call_id(first.call)
    if any(parse_call_id(each.call)[0] != turn_id or each.place != first.place for each in asked.decisions):
        raise InvalidRequestError(
            "Invalid 'input': the decisions must be on calls of the same response.", "input", code="invalid_value"
        )
    if isinstance(first.place, ids.TaskPlace):
        return await decide_in_background(request, components, asked, first.place)
    # Before the decisions: a call of another client's turn is as unknown as one that does not exist.
    waiting = await components.approvals.of_turn(turn_id)
    if any(call.owner != caller for call in waiting):
        raise UnknownApprovalError
    conversation_id, used = first.place.conversation_id, token(request, components)
    where = approval_record.Place("chat", conversation_id)
    for each in asked.decisions:
        await components.approvals.decide(each.call, where, caller, approve=each.approve, reason=each.reason)
    turn = partial(components.dialogue.go_on, caller, conversation_id, turn_id, streamed=asked.stream, token=used)
    return await _answer(request, components, asked, first.place, turn)
