"""Responses in the background: `GET /v1/responses/{id}` and `POST /v1/responses/{id}/cancel`, and their start.

A response in the background is a task in its conversation. It goes on without its client, and in another process if
this one ends.
"""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from agent_service.chat import approval_record
from agent_service.compat import asking
from agent_service.compat.openai import ids
from agent_service.compat.openai.answering import answered
from agent_service.compat.openai.errors import InvalidRequestError
from agent_service.compat.openai.making import make_form
from agent_service.compat.openai.responses_answer import ResponseForm
from agent_service.compat.openai.responses_request import ResponseRequest
from agent_service.compat.openai.task_answer import TaskEvents, is_future, state
from agent_service.components import Components
from agent_service.routes.dependencies import ComponentsDep, owner
from agent_service.routes.task_events import TaskEventStream
from agent_service.tasks.following import UnknownTaskError
from agent_service.tasks.record import Task
from agent_service.tasks.tracing import traceparent

router = APIRouter(prefix="/v1/responses", include_in_schema=False)


@router.get("/{name}")
async def retrieve(
    name: str, request: Request, components: ComponentsDep, *, stream: bool = False, starting_after: int = -1
) -> Response:
    """Return a response in the background as it is now, or its events after the one with this number."""
    return await answered(_retrieve(request, components, name, starting_after if stream else None))


@router.post("/{name}/cancel")
async def cancel(name: str, request: Request, components: ComponentsDep) -> Response:
    """End a response in the background. One that has ended does not change."""
    return await answered(_cancel(request, components, name))


async def in_background(
    request: Request, components: Components, asked: ResponseRequest, conversation_id: str | None
) -> Response:
    """Accept a question, and return its response, or the events of it."""
    question = asking.question(request, components, asked.message, asked.details, conversation_id=conversation_id)
    submitted = await components.background.submit(owner(request), question, traceparent=traceparent(), has_tokens=True)
    task = await _task(request, components, submitted.id)
    return await _answer(request, components, task, asked.echo, -1 if asked.stream else None)


async def decide_in_background(
    request: Request, components: Components, asked: ResponseRequest, place: ids.TaskPlace
) -> Response:
    """Decide on calls of a task that waits, which then goes on, and return its response, or the events of it."""
    task = await _task(request, components, place.task_id)
    for each in asked.decisions:
        await components.approvals.decide(
            each.call,
            approval_record.Place("task", task.id),
            owner(request),
            approve=each.approve,
            reason=each.reason,
        )
    if not await components.approvals.of_turn(task.approval):
        await components.tasks.wake(task.id, task.approval)
    task = await _task(request, components, task.id)
    return await _answer(request, components, task, asked.echo, -1 if asked.stream else None)


async def _retrieve(request: Request, components: Components, name: str, after: int | None) -> Response:
    return await _answer(request, components, await _named(request, components, name), {}, after)


async def _cancel(request: Request, components: Components, name: str) -> Response:
    task = await _named(request, components, name)
    await components.tasks.cancel(owner(request), task.id)
    await components.approvals.remove(task.id)
    return await _answer(request, components, await _task(request, components, task.id), {}, None)


async def _named(request: Request, components: Components, name: str) -> Task:
    place = ids.of_response(name)
    if not isinstance(place, ids.TaskPlace):
        raise InvalidRequestError(
            f"Response with id '{name[:100]}' not found. Only responses in the background can be retrieved.",
            "response_id",
            code="response_not_found",
            status=404,
        )
    return await _task(request, components, place.task_id)


async def _task(request: Request, components: Components, task_id: str) -> Task:
    task = await components.tasks.get(owner(request), task_id)
    if task is None:
        raise unknown_task()
    return task


def unknown_task() -> InvalidRequestError:
    """Return the error for a response that does not exist, belongs to another client, or has expired."""
    return InvalidRequestError(
        "Response not found; it may have expired.", "response_id", code="response_not_found", status=404
    )


async def _answer(
    request: Request, components: Components, task: Task, echo: Mapping[str, Any], after: int | None
) -> Response:
    """Return a response as it is now, or its events `after` a number."""
    form = _form(components, task, echo, after)
    if after is None:
        waiting = await components.approvals.of_turn(task.approval) if task.status == "input_required" else []
        return JSONResponse(state(form, task, waiting))
    following = components.events.follow(owner(request), task.id)
    try:
        await following.start()
    except UnknownTaskError:
        raise unknown_task() from None
    if is_future(after, following.count, task):
        await following.aclose()
        raise InvalidRequestError(
            "This sequence number lies in the future; omit starting_after to get the events from the first.",
            "starting_after",
        )
    events = TaskEvents(form, task)
    seconds = components.settings.stream_heartbeat_seconds
    return TaskEventStream(following, seconds, start=events.start(), written=events.written)


def _form(components: Components, task: Task, echo: Mapping[str, Any], after: int | None) -> ResponseForm:
    conversation = {"id": ids.conversation_of(task.conversation_id)} if task.conversation_id else None
    more = {**echo, "background": True, "conversation": conversation}
    return make_form(components, ids.TaskPlace(task.id), more, after=-1 if after is None else after)
