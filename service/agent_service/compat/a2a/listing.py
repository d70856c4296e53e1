"""ListTasks: the tasks of a client, page by page."""

from a2a.types import a2a_pb2 as types
from a2a.types.a2a_pb2 import Task as A2aTask
from a2a.utils.errors import InvalidParamsError, UnsupportedOperationError
from a2a.utils.task import apply_history_length, decode_page_token, encode_page_token, validate_page_size

from agent_service.compat.a2a import outgoing
from agent_service.components import Components
from agent_service.tasks.record import Task

_PAGE_SIZE = 50
# Tasks that are read for one page. A filter that few of them pass gets a shorter page, and goes on with the next.
_MOST_READ = 1000
_READ_AT_ONCE = 100

_LONGEST_ID = 36

_NO_LIST = (
    "This agent has no client keys, so it cannot distinguish its callers and lists no tasks except those of a context: "
    "send its contextId."
)


class Listing:
    """Lists tasks."""

    def __init__(self, components: Components) -> None:
        self._components = components

    async def page(self, owner: str, params: types.ListTasksRequest) -> types.ListTasksResponse:
        """Return a page of the owner's tasks, newest first.

        Without client keys, all tasks have one owner, and the id of a context grants access to its tasks.

        Raises:
            InvalidParamsError: if the page cannot be had.
            UnsupportedOperationError: without client keys and without a context.
        """
        size = _PAGE_SIZE
        if params.HasField("page_size"):
            validate_page_size(params.page_size)
            size = params.page_size
        if not self._components.clients.need_keys and not params.context_id:
            raise UnsupportedOperationError(_NO_LIST)
        before = _position(params.page_token)
        found, last = await self._read(owner, params, size, before)
        answer = types.ListTasksResponse(page_size=size, next_page_token=encode_page_token(last) if last else "")
        for task in found:
            answer.tasks.append(await self._shown(task, params))
        answer.total_size = await self._components.tasks.size(owner, outgoing.status_of(params.status))
        return answer

    async def _read(
        self, owner: str, params: types.ListTasksRequest, size: int, before: str | None
    ) -> tuple[list[Task], str | None]:
        """Return the tasks of a page, and the last one that was read if there may be more."""
        wanted = outgoing.status_of(params.status)
        found: list[Task] = []
        for _ in range(_MOST_READ // _READ_AT_ONCE):
            tasks = await self._components.tasks.newest(owner, wanted, _READ_AT_ONCE, before)
            for task in tasks:
                if _passes(task, params):
                    if len(found) == size:
                        return found, before
                    found.append(task)
                before = task.id
            if len(tasks) < _READ_AT_ONCE:
                return found, None
        return found, before

    async def _shown(self, task: Task, params: types.ListTasksRequest) -> A2aTask:
        waits = task.status == "input_required"
        waiting = await self._components.approvals.of_turn(task.approval) if waits else ()
        shown = apply_history_length(outgoing.task_of(task, waiting), params)
        if not params.include_artifacts:
            shown.ClearField("artifacts")
        return shown


def _passes(task: Task, params: types.ListTasksRequest) -> bool:
    if params.context_id and outgoing.context_of(task) != params.context_id:
        return False
    if params.status and outgoing.state_of(task) != params.status:
        return False
    if not params.HasField("status_timestamp_after"):
        return True
    after: float = params.status_timestamp_after.ToNanoseconds() / 1e9
    return outgoing.changed_at(task) >= after


def _position(token: str) -> str | None:
    if not token:
        return None
    position = decode_page_token(token)
    if len(position) != _LONGEST_ID or not position.isascii():
        raise InvalidParamsError("The page token is not one of this agent.")
    return position
