"""Approvals: the tool calls that wait for one, and the decisions."""

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from pydantic import AfterValidator, BaseModel, Field

from agent_service.agent.messages import sendable
from agent_service.agent.turn import OnPiece
from agent_service.chat.approval_record import Place, WaitingCall, parse_call_id
from agent_service.chat.conversations import is_of_client
from agent_service.chat.dialogue import Reply
from agent_service.components import Components
from agent_service.routes.body import Body
from agent_service.routes.chat import ERRORS, ChatAnswer, ignore, json_answer
from agent_service.routes.dependencies import ComponentsDep, owner, token
from agent_service.routes.disconnect import CLIENT_CLOSED_REQUEST, ClientGoneError, WhileConnected
from agent_service.routes.errors import describe
from agent_service.routes.sse import EVENT_STREAM, EventStream, OwnForm
from agent_service.routes.tasks import TaskAnswer, TaskId, answer_of

router = APIRouter(tags=["approvals"])

_TURN_ID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"

_NO_LIST = (
    "This agent has no client keys, so it cannot distinguish its callers and lists no approvals: "
    "the answer that waits for them has their ids."
)

_CallId = Annotated[str, Field(max_length=64, description="Id of the tool call, from the answer that waits for it.")]
_Reason = Annotated[
    str, Field(max_length=2000, description="Reason of a rejection, for the model."), AfterValidator(sendable)
]


class TaskDecision(Body):
    """Body of `POST /tasks/{task_id}/approvals`."""

    id: _CallId
    approve: bool = Field(strict=True, description="Whether the call may be made.")
    reason: _Reason = ""


class ChatDecision(Body):
    """Body of `POST /chat/{conversation_id}/approvals`."""

    id: _CallId
    approve: bool | None = Field(
        None,
        strict=True,
        description="Whether the call may be made. The client that asked omits it to go on with a turn that an "
        "approver has decided.",
    )
    reason: _Reason = ""
    stream: bool = Field(default=False, strict=True, description="Whether to answer as `POST /chat/stream` does.")


class Waiting(BaseModel):
    """A tool call that waits for an approval, of any conversation or task."""

    id: str = Field(description="Id of the tool call, for the decision.")
    client: str = Field(description="Client that asked: the name of its key, or the id by its token.")
    conversation_id: str | None = Field(None, description="Conversation in which it waits. Null for a task.")
    task_id: str | None = Field(None, description="Task in which it waits. Null for a conversation.")
    tool: str = Field(description="Name of the tool.")
    server: str = Field(description="Name of the server in the agent's `tools`.")
    input: dict[str, Any] = Field(description="Exact arguments of the call.")
    created_at: datetime
    expires_at: datetime = Field(description="When it is refused if there is no decision.")


class WaitingList(BaseModel):
    """Answer of `GET /approvals`."""

    approvals: list[Waiting] = Field(description="Calls of this page, those of the newest turn first.")
    next_cursor: str | None = Field(description="Value of `cursor` for the next page. Null on the last page.")


@router.get("/approvals", responses=describe(403, 422, 429, 503))
async def find(
    request: Request,
    components: ComponentsDep,
    limit: Annotated[int, Query(ge=1, le=100, description="Maximum number of turns whose calls are returned.")] = 20,
    cursor: Annotated[str | None, Query(pattern=_TURN_ID, description="`next_cursor` of the previous page.")] = None,
) -> WaitingList:
    """List the tool calls on which the caller may decide."""
    if not components.clients.need_keys:
        raise HTTPException(403, _NO_LIST)
    found, next_cursor = await components.approvals.waiting(owner(request), limit, cursor)
    return WaitingList(approvals=[_waiting(call) for call in found], next_cursor=next_cursor)


@router.post(
    "/chat/{conversation_id}/approvals",
    response_model=ChatAnswer,
    responses={**ERRORS, **describe(403, 404, 409), 200: {"content": EVENT_STREAM}},
)
async def decide(
    body: ChatDecision,
    request: Request,
    components: ComponentsDep,
    conversation_id: Annotated[str, Path(max_length=128, description="Id of the conversation.")],
) -> Response:
    """Decide on a tool call. When none of its turn is undecided any more, the answer is the rest of the turn.

    The turn goes on for the client that asked. Another client, as an approver may be, gets no part of its answer. A
    client of another protocol that keeps the history itself goes on in its own protocol, so its decision is only kept.
    """
    started = time.perf_counter()
    turn_id, _ = parse_call_id(body.id)
    caller = owner(request)
    if body.approve is not None:
        asked_by = await components.approvals.decide(
            body.id, Place("chat", conversation_id), caller, approve=body.approve, reason=body.reason
        )
        if asked_by != caller or is_of_client(conversation_id):
            left = await components.approvals.of_turn(turn_id)
            answer = ChatAnswer.without_text(conversation_id, started, status="decided", waiting=left)
            return Response(answer.model_dump_json(exclude_none=True), media_type="application/json")

    async def go_on(on_piece: OnPiece) -> Reply:
        return await components.dialogue.go_on(
            caller, conversation_id, turn_id, on_piece, streamed=body.stream, token=token(request, components)
        )

    if body.stream:
        return _stream(components, go_on)
    try:
        async with WhileConnected(request.receive):
            reply = await go_on(ignore)
    except ClientGoneError:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return json_answer(reply, started)


@router.post("/tasks/{task_id}/approvals", responses=describe(403, 404, 408, 409, 413, 422, 429, 503))
async def decide_for_task(
    body: TaskDecision, request: Request, components: ComponentsDep, task_id: TaskId
) -> TaskAnswer:
    """Decide on a tool call of a task. When none is undecided any more, the task goes on."""
    turn_id, _ = parse_call_id(body.id)
    place = Place("task", task_id)
    asked_by = await components.approvals.decide(
        body.id, place, owner(request), approve=body.approve, reason=body.reason
    )
    if not await components.approvals.of_turn(turn_id):
        await components.tasks.wake(task_id, turn_id)
    task = await components.tasks.get(asked_by, task_id)
    if task is None:
        raise HTTPException(404, "The task does not exist; it may have expired.")
    answer = await answer_of(components, task)
    # An approver learns of the calls, and not of what the owner's task has as its result.
    return answer if asked_by == owner(request) else answer.model_copy(update={"result": None, "error": None})


def _stream(components: Components, go_on: Callable[[OnPiece], Awaitable[Reply]]) -> Response:
    return EventStream(
        go_on, OwnForm(), metrics=components.metrics, heartbeat_seconds=components.settings.stream_heartbeat_seconds
    )


def _waiting(call: WaitingCall) -> Waiting:
    return Waiting(
        id=call.id,
        client=call.owner,
        conversation_id=call.place.id if call.place.kind == "chat" else None,
        task_id=call.place.id if call.place.kind == "task" else None,
        tool=call.tool,
        server=call.server,
        input=dict(call.input),
        created_at=datetime.fromtimestamp(call.created, UTC),
        expires_at=datetime.fromtimestamp(call.expires, UTC),
    )
