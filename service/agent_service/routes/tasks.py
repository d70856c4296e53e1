"""`/tasks`: work that takes longer than a client wants to wait."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from pydantic import BaseModel, Field

from agent_service.components import Components
from agent_service.routes.accepted import Accepted, IdempotencyKey, accepted_of
from agent_service.routes.approval_form import Approval
from agent_service.routes.body import Body
from agent_service.routes.chat import Message, Steps
from agent_service.routes.dependencies import ComponentsDep, owner
from agent_service.routes.errors import describe
from agent_service.tasks.following import UnknownTaskError
from agent_service.tasks.queue import KeyReusedError
from agent_service.tasks.record import Status, Task
from agent_service.tasks.tracing import traceparent

router = APIRouter(prefix="/tasks", tags=["tasks"])

_ID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"

_NO_LIST = (
    "This agent has no client keys, so it cannot distinguish its callers and lists no tasks: "
    "look a task up by the id that POST /tasks returned."
)

TaskId = Annotated[str, Path(max_length=128, description="Id of the task.")]


class TaskRequest(Body):
    """Body of `POST /tasks`."""

    message: Message


class TaskResult(BaseModel):
    """Result of a completed task."""

    response: str = Field(description="Answer of the agent.")
    tokens_used: int = Field(description="Sum of the tokens sent and received by the last attempt.")
    stop_reason: str | None = Field(
        None, description="Why the answer was cut short, such as `max_tokens` or `max_steps`. Null if it was not."
    )
    model: str | None = Field(None, description="Model that answered. Null without fallbacks.")
    provider: str | None = Field(None, description="Provider that answered. Null without fallbacks.")
    steps: Steps = None
    warning: str | None = Field(None, description="Why the answer is not in its conversation. Null if it is.")


class TaskFailure(BaseModel):
    """Why a task failed."""

    code: str = Field(
        description="Reason for programs, such as `cancelled`, `timed_out`, `refused` or `deadline_exceeded`."
    )
    message: str = Field(description="Reason for people.")


class TaskAnswer(BaseModel):
    """A task."""

    task_id: str
    status: Status
    attempts: int = Field(description="Number of attempts that were started.")
    created_at: datetime
    started_at: datetime | None = Field(description="When the first attempt started.")
    finished_at: datetime | None
    result: TaskResult | None = Field(description="Result of the task, once it is `completed`.")
    error: TaskFailure | None = Field(description="Why the task is `failed`.")
    conversation_id: str | None = Field(
        None, description="Conversation to which a background chat belongs. Null for a plain task."
    )
    approvals: list[Approval] | None = Field(
        None, description="Tool calls that wait for an approval, while the task is `input_required`."
    )


class TaskList(BaseModel):
    """Answer of `GET /tasks`."""

    tasks: list[TaskAnswer] = Field(description="Tasks of this page, newest first.")
    next_cursor: str | None = Field(description="Value of `cursor` for the next page. Null on the last page.")


@router.post("", status_code=202, responses=describe(408, 409, 413, 422, 429, 503))
async def submit(
    body: TaskRequest,
    request: Request,
    response: Response,
    components: ComponentsDep,
    idempotency_key: IdempotencyKey = None,
) -> Accepted:
    """Accept a message to be answered in the background, even if this instance ends."""
    try:
        submitted = await components.tasks.accept(
            owner(request),
            body.message,
            traceparent=traceparent(),
            idempotency_key=idempotency_key or "",
        )
    except KeyReusedError as error:
        raise HTTPException(409, str(error)) from None
    accepted = accepted_of(submitted)
    response.headers["Location"] = accepted.status_url
    return accepted


@router.get("", responses=describe(403, 422, 429, 503))
async def find(
    request: Request,
    components: ComponentsDep,
    status: Annotated[Status | None, Query(description="State of the tasks to return.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Maximum number of tasks to return.")] = 20,
    cursor: Annotated[str | None, Query(pattern=_ID, description="`next_cursor` of the previous page.")] = None,
) -> TaskList:
    """List the tasks of the caller's client key, newest first.

    An agent without client keys cannot distinguish its callers, so it lists no tasks. There, the id of a task grants
    access to it.
    """
    if not components.clients.need_keys:
        raise HTTPException(403, _NO_LIST)
    # One task more than is returned shows whether there is a next page.
    found = await components.tasks.newest(owner(request), status, limit + 1, cursor)
    page = found[:limit]
    answers = [await answer_of(components, task) for task in page]
    return TaskList(tasks=answers, next_cursor=page[-1].id if len(found) > limit else None)


@router.get("/{task_id}", responses=describe(404, 422, 429, 503))
async def look_up(task_id: TaskId, request: Request, components: ComponentsDep) -> TaskAnswer:
    """Return the state of a task, and its result once it has ended."""
    task = await components.tasks.get(owner(request), task_id)
    if task is None:
        raise _unknown()
    return await answer_of(components, task)


@router.delete("/{task_id}", responses=describe(404, 422, 429, 503))
async def cancel(task_id: TaskId, request: Request, components: ComponentsDep) -> TaskAnswer:
    """Cancel a task that waits or runs: it is then `failed` with the code `cancelled`.

    A task that has ended does not change.
    """
    if not await components.tasks.cancel(owner(request), task_id):
        raise _unknown()
    await components.approvals.remove(task_id)
    return await look_up(task_id, request, components)


def _unknown() -> HTTPException:
    return HTTPException(404, str(UnknownTaskError()))


async def answer_of(components: Components, task: Task) -> TaskAnswer:
    """Return a task as its client sees it, with the calls that wait for approvals."""
    waiting = await components.approvals.of_turn(task.approval) if task.status == "input_required" else []
    return TaskAnswer(
        task_id=task.id,
        status=task.status,
        attempts=task.attempts,
        created_at=_time(task.created),
        started_at=None if task.started is None else _time(task.started),
        finished_at=None if task.finished is None else _time(task.finished),
        result=None if task.result is None else TaskResult.model_validate(task.result),
        error=None if task.error is None else TaskFailure.model_validate(task.error),
        conversation_id=task.conversation_id or None,
        approvals=[Approval.of(call) for call in waiting] or None,
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
