"""The methods of A2A, over our tasks: each message of a client is a task in its conversation."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from a2a.server.context import ServerCallContext
from a2a.server.request_handlers.request_handler import RequestHandler
from a2a.types import a2a_pb2 as types
from a2a.types.a2a_pb2 import Task as A2aTask
from a2a.utils.errors import (
    InvalidParamsError,
    PushNotificationNotSupportedError,
    TaskNotCancelableError,
    UnsupportedOperationError,
)
from a2a.utils.proto_utils import validate_proto_required_fields
from a2a.utils.task import apply_history_length, validate_history_length

from agent_service.agent.details import Details
from agent_service.chat.approval_errors import UnknownApprovalError
from agent_service.chat.approval_record import Place, parse_call_id
from agent_service.chat.question import Question
from agent_service.compat.a2a import incoming, outgoing
from agent_service.compat.a2a.errors import LimitedError, translated, unknown_task
from agent_service.compat.a2a.listing import Listing
from agent_service.compat.a2a.updates import Update, Updates
from agent_service.compat.asking import check_tokens
from agent_service.components import Components
from agent_service.tasks.record import Task
from agent_service.tasks.tracing import traceparent

OWNER, HEADERS = "owner", "portside.headers"
"""Where the state of a call has the owner of the caller's tasks, and further headers of the answer."""

_ENDS = frozenset({"done", "error"})
_ENDED = frozenset({"completed", "failed"})

_NO_PUSH = "This agent sends no push notifications: use SubscribeToTask or GetTask."


class Handler(RequestHandler):
    """Answers the calls of both bindings and both versions; the SDK reads and writes them."""

    def __init__(self, components: Components) -> None:
        self._components = components
        self._tasks = components.tasks
        self._approvals = components.approvals
        self._listing = Listing(components)

    async def on_message_send(
        self, params: types.SendMessageRequest, context: ServerCallContext
    ) -> A2aTask | types.Message:
        """Start or continue a task, and return it when it has ended or waits, or at once if the client wants that."""
        with translated():
            owner = _owner(context)
            task, shown = await self._start(params, context)
            if not shown:
                return _outline(task)
            if not params.configuration.return_immediately:
                async with aclosing(self._follow(owner, task)) as updates:
                    async for _ in updates:
                        pass
            return apply_history_length(await self._known(owner, task.id), params.configuration)

    async def on_message_send_stream(
        self, params: types.SendMessageRequest, context: ServerCallContext
    ) -> AsyncGenerator[A2aTask | Update]:
        """Start or continue a task; yield it, and then its updates until it has ended or waits."""
        with translated():
            owner = _owner(context)
            task, shown = await self._start(params, context)
            if not shown:
                yield _outline(task)
                return
            yield apply_history_length(_without_answer(outgoing.task_of(task)), params.configuration)
            async with aclosing(self._follow(owner, task)) as updates:
                async for update in updates:
                    yield update

    async def on_subscribe_to_task(
        self, params: types.SubscribeToTaskRequest, context: ServerCallContext
    ) -> AsyncGenerator[A2aTask | Update]:
        """Yield a task that has not ended, and its updates from the first: the answer so far replaces what was seen."""
        with translated():
            validate_proto_required_fields(params)
            owner = _owner(context)
            task = await self._get(owner, params.id)
            if task.status in _ENDED:
                raise UnsupportedOperationError("The task has ended: GetTask returns it with its answer.")
            yield outgoing.task_of(task)
            async with aclosing(self._follow(owner, task)) as updates:
                async for update in updates:
                    yield update

    async def on_get_task(self, params: types.GetTaskRequest, context: ServerCallContext) -> A2aTask | None:
        """Return a task."""
        with translated():
            validate_proto_required_fields(params)
            validate_history_length(params)
            return apply_history_length(await self._known(_owner(context), params.id), params)

    async def on_list_tasks(
        self, params: types.ListTasksRequest, context: ServerCallContext
    ) -> types.ListTasksResponse:
        """Return a page of the caller's tasks, newest first."""
        with translated():
            validate_history_length(params)
            return await self._listing.page(_owner(context), params)

    async def on_cancel_task(self, params: types.CancelTaskRequest, context: ServerCallContext) -> A2aTask | None:
        """Cancel a task that has not ended."""
        with translated():
            validate_proto_required_fields(params)
            owner = _owner(context)
            if (await self._get(owner, params.id)).status not in _ENDED:
                await self._tasks.cancel(owner, params.id)
                await self._approvals.remove(params.id)
                task = await self._get(owner, params.id)
                if (task.error or {}).get("code") == outgoing.CANCELLED:
                    return outgoing.task_of(task)
            raise TaskNotCancelableError("The task has ended already.")

    async def on_get_extended_agent_card(
        self, _params: types.GetExtendedAgentCardRequest, _context: ServerCallContext
    ) -> types.AgentCard:
        """Refuse: the public card is all there is."""
        raise UnsupportedOperationError("This agent has no extended card.")

    async def on_create_task_push_notification_config(
        self, _params: types.TaskPushNotificationConfig, _context: ServerCallContext
    ) -> types.TaskPushNotificationConfig:
        """Refuse."""
        raise PushNotificationNotSupportedError(_NO_PUSH)

    async def on_get_task_push_notification_config(
        self, _params: types.GetTaskPushNotificationConfigRequest, _context: ServerCallContext
    ) -> types.TaskPushNotificationConfig:
        """Refuse."""
        raise PushNotificationNotSupportedError(_NO_PUSH)

    async def on_list_task_push_notification_configs(
        self, _params: types.ListTaskPushNotificationConfigsRequest, _context: ServerCallContext
    ) -> types.ListTaskPushNotificationConfigsResponse:
        """Refuse."""
        raise PushNotificationNotSupportedError(_NO_PUSH)

    async def on_delete_task_push_notification_config(
        self, _params: types.DeleteTaskPushNotificationConfigRequest, _context: ServerCallContext
    ) -> None:
        """Refuse."""
        raise PushNotificationNotSupportedError(_NO_PUSH)

    async def _start(self, params: types.SendMessageRequest, context: ServerCallContext) -> tuple[Task, bool]:
        """Return the task of a message, and whether the caller may see its content, which an approver may not."""
        validate_proto_required_fields(params)
        validate_history_length(params.configuration)
        if params.configuration.HasField("task_push_notification_config"):
            raise PushNotificationNotSupportedError(_NO_PUSH)
        message, owner = params.message, _owner(context)
        if message.task_id:
            return await self._decide(message, owner)
        incoming.check_context(message.context_id)
        asked = incoming.question(message)
        details = Details(api="a2a", content=asked.content, instructions=asked.instructions)
        check_tokens(self._components, asked.text, details)
        question = Question(asked.text, message.context_id or None, details=details)
        await self._admit(context)
        # The id of a context may be the client's own.
        accepted = await self._components.background.submit(
            owner, question, traceparent=traceparent(), takes_unknown_id=True
        )
        return await self._get(owner, accepted.id), True

    async def _admit(self, context: ServerCallContext) -> None:
        """Raise LimitedError if the caller has used up its budget."""
        limits = self._components.limits
        verdict = await limits.admit_task(_owner(context))
        if verdict.refused is not None:
            self._components.metrics.rate_limited.labels(verdict.refused).inc()
            sentence, seconds = limits.explain(verdict)
            context.state[HEADERS]["Retry-After"] = str(seconds)
            raise LimitedError(sentence, data={"retryAfter": seconds})

    async def _decide(self, message: types.Message, owner: str) -> tuple[Task, bool]:
        """Decide on calls that a task waits for, and let it go on when none of them is undecided."""
        task = await self._tasks.get(owner, message.task_id)
        if task is not None:
            _check_waits(task, message)
        elif not incoming.has_data(message.parts):
            raise unknown_task()
        asked_by, turns = owner, set()
        try:
            for decided in incoming.decisions(message):
                turns.add(parse_call_id(decided.id)[0])
                asked_by = await self._approvals.decide(
                    decided.id,
                    Place("task", message.task_id),
                    owner,
                    approve=decided.approve,
                    reason=decided.reason,
                )
        except UnknownApprovalError:
            # An approver need not be the owner of the task.
            if task is None:
                raise unknown_task() from None
            raise
        for turn in turns:
            if not await self._approvals.of_turn(turn):
                await self._tasks.wake(message.task_id, turn)
        return await self._get(asked_by, message.task_id), asked_by == owner

    async def _follow(self, owner: str, task: Task) -> AsyncGenerator[Update]:
        """Yield the updates of a task from its first event, until it has ended or waits."""
        updates = Updates(task.id, outgoing.context_of(task))
        async with aclosing(self._components.events.follow(owner, task.id, while_draining=True)) as events:
            async for event in events:
                if event.data["type"] == "input_required":
                    waits = await self._get(owner, task.id)
                    # The calls of an earlier wait are decided, and the task has gone on.
                    if waits.status == "input_required":
                        yield updates.waits(await self._approvals.of_turn(waits.approval))
                        return
                for update in updates.of(event.data):
                    yield update
                if event.data["type"] in _ENDS:
                    return

    async def _get(self, owner: str, task_id: str) -> Task:
        task = await self._tasks.get(owner, task_id)
        if task is None:
            raise unknown_task()
        return task

    async def _known(self, owner: str, task_id: str) -> A2aTask:
        task = await self._get(owner, task_id)
        waits = task.status == "input_required"
        return outgoing.task_of(task, await self._approvals.of_turn(task.approval) if waits else ())


def _owner(context: ServerCallContext) -> str:
    return str(context.state[OWNER])


def _check_waits(task: Task, message: types.Message) -> None:
    if message.context_id and message.context_id != outgoing.context_of(task):
        raise InvalidParamsError("The message names a task of another context.")
    if task.status != "input_required":
        state = "has ended" if task.status in _ENDED else "does not wait for anything"
        raise UnsupportedOperationError(
            f"The task {state}: for a further question, send a message with the contextId and without a taskId."
        )


def _outline(task: Task) -> A2aTask:
    """Return what an approver learns of another client's task."""
    return A2aTask(id=task.id, context_id=outgoing.context_of(task), status=outgoing.status(outgoing.state_of(task)))


def _without_answer(task: A2aTask) -> A2aTask:
    """Return a task without its answer, which follows piece by piece."""
    task.ClearField("artifacts")
    return task
