"""`/tasks`: work that takes longer than a client wants to wait."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Path, Query, Request, Response
from pydantic import BaseModel, Field

from agent_service.routes.body import Body
from agent_service.routes.chat import Message
from agent_service.routes.dependencies import ComponentsDep, owner
from agent_service.routes.errors import describe
from agent_service.tasks.queue import KeyReusedError, Status, Task
from agent_service.tasks.tracing import traceparent

router = APIRouter(prefix="/tasks", tags=["tasks"])

_ID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"

_NO_LIST = (
    "This agent has no client keys, so it cannot distinguish its callers and lists no tasks: "
    "look a task up by the id that POST /tasks returned."
)

_TaskId = Annotated[str, Path(max_length=128, description="Id of the task.")]

# Visible ASCII, so that it fits into a header and the name of a key in Redis.
_IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern="^[!-~]+$",
        description="Chosen by the client: sending the same key again gives the task that it made, and no second one.",
    ),
]


class TaskRequest(Body):
    """Body of `POST /tasks`."""

    message: Message


class Accepted(BaseModel):
    """Answer of `POST /tasks`."""

    task_id: str
    status: Status = Field(description="`pending`, unless the idempotency key made the task before.")
    status_url: str = Field(description="Where to look it up.")


class TaskResult(BaseModel):
    """What a completed task gave."""

    response: str = Field(description="What the agent says.")
    tokens_used: int = Field(description="Tokens sent and received together, by the last attempt.")
    stop_reason: str | None = Field(None, description="Why the answer was cut, such as `max_tokens`; null when not.")


class TaskFailure(BaseModel):
    """Why a task failed."""

    code: str = Field(description="For programs, such as `cancelled`, `timed_out`, `refused`, `deadline_exceeded`.")
    message: str = Field(description="For people.")


class TaskAnswer(BaseModel):
    """A task."""

    task_id: str
    status: Status
    attempts: int = Field(description="How often it was taken up.")
    created_at: datetime
    started_at: datetime | None = Field(description="When it was first taken up.")
    finished_at: datetime | None
    result: TaskResult | None = Field(description="What it gave, once it is `completed`.")
    error: TaskFailure | None = Field(description="Why it is `failed`.")


class TaskList(BaseModel):
    """Answer of `GET /tasks`."""

    tasks: list[TaskAnswer] = Field(description="The newest first.")
    next_cursor: str | None = Field(description="What to ask for the next page with; null on the last.")


@router.post("", status_code=202, responses=describe(408, 409, 413, 422, 429, 503))
async def submit(
    body: TaskRequest,
    request: Request,
    response: Response,
    components: ComponentsDep,
    idempotency_key: _IdempotencyKey = None,
) -> Accepted:
    """Accept a message that is answered in the background, also when this instance ends."""
    try:
        task_id, status = await components.tasks.submit(
            owner(request),
            body.message,
            traceparent=traceparent(),
            idempotency_key=idempotency_key or "",
        )
    except KeyReusedError as error:
        raise HTTPException(409, str(error)) from None
    url = str(request.app.url_path_for("look_up", task_id=task_id))
    response.headers["Location"] = url
    return Accepted(task_id=task_id, status=status, status_url=url)


@router.get("", responses=describe(403, 422, 429, 503))
async def find(
    request: Request,
    components: ComponentsDep,
    status: Annotated[Status | None, Query(description="Only tasks in this state.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="Most tasks to give.")] = 20,
    cursor: Annotated[str | None, Query(pattern=_ID, description="`next_cursor` of the page before.")] = None,
) -> TaskList:
    """List the tasks of the caller's client key, the newest first.

    An agent without client keys cannot distinguish its callers and lists nothing: there the id is what grants access.
    """
    if not components.clients.need_keys:
        raise HTTPException(403, _NO_LIST)
    # One more than is given tells whether there is a next page.
    found = await components.tasks.newest(owner(request), status, limit + 1, cursor)
    page = found[:limit]
    return TaskList(tasks=[_answer(task) for task in page], next_cursor=page[-1].id if len(found) > limit else None)


@router.get("/{task_id}", responses=describe(404, 422, 429, 503))
async def look_up(task_id: _TaskId, request: Request, components: ComponentsDep) -> TaskAnswer:
    """Tell the state of a task, and its result at the end."""
    task = await components.tasks.get(owner(request), task_id)
    if task is None:
        raise _unknown()
    return _answer(task)


@router.delete("/{task_id}", responses=describe(404, 422, 429, 503))
async def cancel(task_id: _TaskId, request: Request, components: ComponentsDep) -> TaskAnswer:
    """Cancel a task that waits or runs: it is then `failed` with the code `cancelled`. One that has ended stays so."""
    if not await components.tasks.cancel(owner(request), task_id):
        raise _unknown()
    return await look_up(task_id, request, components)


def _unknown() -> HTTPException:
    return HTTPException(404, "There is no such task; its time may be over.")


def _answer(task: Task) -> TaskAnswer:
    return TaskAnswer(
        task_id=task.id,
        status=task.status,
        attempts=task.attempts,
        created_at=_time(task.created),
        started_at=None if task.started is None else _time(task.started),
        finished_at=None if task.finished is None else _time(task.finished),
        result=None if task.result is None else TaskResult.model_validate(task.result),
        error=None if task.error is None else TaskFailure.model_validate(task.error),
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
