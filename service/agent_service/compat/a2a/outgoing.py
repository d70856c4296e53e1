"""Our tasks in the form of A2A. Pure.

The answer is one artifact, `answer`. Tool calls and their results are data parts of the agent's messages.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from a2a.types.a2a_pb2 import Artifact, Message, Part, Role, TaskState, TaskStatus
from a2a.types.a2a_pb2 import Task as A2aTask
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Value

from agent_service.chat.approval_record import WaitingCall
from agent_service.tasks.record import Status, Task

ANSWER = "answer"
CANCELLED = "cancelled"

_STATES: Mapping[Status, TaskState] = {
    "pending": TaskState.TASK_STATE_SUBMITTED,
    "running": TaskState.TASK_STATE_WORKING,
    "input_required": TaskState.TASK_STATE_INPUT_REQUIRED,
    "completed": TaskState.TASK_STATE_COMPLETED,
    "failed": TaskState.TASK_STATE_FAILED,
}

_STATUSES: Mapping[TaskState, Status] = {
    **{state: status for status, state in _STATES.items()},
    TaskState.TASK_STATE_CANCELED: "failed",
}


def state_of(task: Task) -> TaskState:
    """Return the state of a task."""
    return state_of_failure((task.error or {}).get("code")) if task.status == "failed" else _STATES[task.status]


def state_of_failure(code: object) -> TaskState:
    """Return the state of a task that failed with an error of this code."""
    return TaskState.TASK_STATE_CANCELED if code == CANCELLED else TaskState.TASK_STATE_FAILED


def status_of(state: TaskState) -> Status | None:
    """Return our status of the tasks in a state; None if no task of ours is ever in it."""
    return _STATUSES.get(state)


def context_of(task: Task) -> str:
    """Return the id of a task's context. A task outside of any conversation is a context of its own."""
    return task.conversation_id or task.id


def changed_at(task: Task) -> float:
    """Return when a task came into its status, in seconds since 1970."""
    return task.finished or task.started or task.created


def task_of(task: Task, waiting: Sequence[WaitingCall] = ()) -> A2aTask:
    """Return a task with its messages, and with its answer if it is complete. `waiting` are its calls that wait."""
    found = A2aTask(id=task.id, context_id=context_of(task), status=_status(task, waiting))
    found.history.append(
        Message(
            message_id=f"{task.id}.question",
            context_id=found.context_id,
            task_id=task.id,
            role=Role.ROLE_USER,
            parts=[Part(text=task.message)],
        )
    )
    result = task.result or {}
    if result.get("steps"):
        parts = [data_part({"type": "tool_call", **step}) for step in result["steps"]]
        found.history.append(agent_message(task.id, found.context_id, "steps", parts))
    if task.result is not None:
        found.artifacts.append(answer_artifact(result["response"]))
        found.metadata.update(named(result, tokens_used="tokensUsed", stop_reason="stopReason"))
    return found


def named(values: Mapping[str, Any], **names: str) -> dict[str, Any]:
    """Return the values that are set, under the names that A2A's style asks for."""
    return {new: values[name] for name, new in names.items() if values.get(name) is not None}


def answer_artifact(text: str) -> Artifact:
    """Return the artifact of the answer with this text, or with a piece of it."""
    return Artifact(artifact_id=ANSWER, name=ANSWER, parts=[Part(text=text)])


def status(state: TaskState, message: Message | None = None, *, at: float | None = None) -> TaskStatus:
    """Return a status. `at` is its time in seconds since 1970, now by default."""
    found = TaskStatus(state=state, message=message)
    found.timestamp.FromDatetime(datetime.now(UTC) if at is None else datetime.fromtimestamp(at, UTC))
    return found


def agent_message(task_id: str, context_id: str, name: str, parts: Iterable[Part]) -> Message:
    """Return a message of the agent; `name` is unique in its task."""
    return Message(
        message_id=f"{task_id}.{name}", context_id=context_id, task_id=task_id, role=Role.ROLE_AGENT, parts=list(parts)
    )


def data_part(value: Mapping[str, Any]) -> Part:
    """Return a part with data."""
    return Part(data=ParseDict(value, Value()), media_type="application/json")


def waiting_parts(waiting: Iterable[Mapping[str, Any]]) -> list[Part]:
    """Return the parts of the message of a task that waits: a sentence for people, and each call as data."""
    calls = list(waiting)
    lines = [f"- {call['tool']} {json.dumps(call['input'], ensure_ascii=False)}, id {call['id']}" for call in calls]
    text = (
        "These tool calls wait for an approval. To decide, send a message with the id of this task and, for each call, "
        'a data part {"id": "<id of the call>", "approve": true or false}.\n'
    )
    return [Part(text=text + "\n".join(lines)), *(data_part({"type": "approval", **call}) for call in calls)]


def waiting_call(call: WaitingCall) -> dict[str, Any]:
    """Return a call that waits for an approval, as our own API has it."""
    expires = datetime.fromtimestamp(call.expires, UTC).isoformat()
    return {"id": call.id, "tool": call.tool, "server": call.server, "input": dict(call.input), "expires_at": expires}


def _status(task: Task, waiting: Sequence[WaitingCall]) -> TaskStatus:
    message = None
    context_id = context_of(task)
    if task.status == "failed" and task.error is not None:
        message = agent_message(task.id, context_id, "error", error_parts(task.error))
    elif waiting:
        message = agent_message(task.id, context_id, "approvals", waiting_parts(map(waiting_call, waiting)))
    return status(state_of(task), message, at=changed_at(task))


def error_parts(error: Mapping[str, Any]) -> list[Part]:
    """Return the parts of the message of a task that failed: the sentence, and the error as data."""
    code, text = str(error.get("code", "")), str(error.get("message", ""))
    return [Part(text=text), data_part({"type": "error", "code": code, "message": text})]
