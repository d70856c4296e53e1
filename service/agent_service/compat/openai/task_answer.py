"""Responses in the background: their state, and their events from any position. Pure.

The numbers of the events follow from those of the task's events, so that any process goes on with the same ones.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from agent_service.agent.messages import Usage
from agent_service.agent.tools import ToolResult, ToolUse
from agent_service.chat.approval_record import Place, WaitingCall
from agent_service.chat.dialogue import Reply
from agent_service.compat.openai.responses_answer import ResponseForm
from agent_service.tasks.event_record import StoredEvent
from agent_service.tasks.record import Task

# An event of a task has at most so many events of a response, but for the last one, after which no other comes.
_EVENTS_OF_ONE = 16

# The last one may have two for each call that waits for an approval (MAX_TOOL_CALLS).
_EVENTS_OF_LAST = 1100

_STATUS = {"pending": "queued", "running": "in_progress"}
_CANCELLED = "cancelled"


def state(form: ResponseForm, task: Task, waiting: Sequence[WaitingCall]) -> Mapping[str, Any]:
    """Return the response as it is now; `waiting` are the calls that wait for approvals."""
    form.set_times(task.created, task.finished)
    form.response["status"] = _STATUS.get(task.status, "in_progress")
    if task.error is not None:
        form.fail(task.error["message"], 500, _failed(task.error["code"]))
    elif task.status == "input_required":
        form.whole(Reply("", Usage(), task.conversation_id, waiting=waiting))
    elif task.result is not None:
        _add_result(form, task.result)
        form.whole(Reply("", _usage_of_result(task.result), task.conversation_id, task.result.get("warning")))
    return form.response


def is_future(number: int, count: int, task: Task) -> bool:
    """Return whether no event of a response has this number yet, of which the task has `count` events."""
    over = task.status not in _STATUS
    return number >= (count + 1) * _EVENTS_OF_ONE + (_EVENTS_OF_LAST if over else 0)


class TaskEvents:
    """Puts the events of a task into the form of those of its response."""

    def __init__(self, form: ResponseForm, task: Task) -> None:
        self._form = form
        self._conversation_id = task.conversation_id
        form.set_times(task.created, task.finished)
        form.response["status"] = _STATUS["pending"]

    def start(self) -> bytes:
        """Return the first events."""
        return self._form.start() or self._form.heartbeat

    def written(self, event: StoredEvent) -> bytes:
        """Return the events of the response for one of the task."""
        self._form.number_from(int(event.id.rpartition(".")[2]) * _EVENTS_OF_ONE)
        data = event.data
        match data["type"]:
            case "text":
                written = self._form.piece(data["content"])
            case "tool_use":
                written = self._form.piece(ToolUse(data["id"], data["name"], data["input"]))
            case "tool_result":
                written = self._form.piece(_result(data))
            case "restarted":
                written = self._form.restart(data["content"])
            case "resumed":
                written = self._form.resumed(data)
            case "error":
                written = self._form.failed(data["message"], 500, _failed(data["code"]))
            case _:
                written = self._form.end(self._reply(data))
        return written

    def _reply(self, data: Mapping[str, Any]) -> Reply:
        waiting = [
            WaitingCall(each["id"], "", Place("task", ""), each["tool"], each["server"], each["input"], 0, 0)
            for each in data.get("approvals", ())
        ]
        usage = Usage(
            uncached_tokens=data.get("input_tokens", 0),
            output_tokens=data.get("output_tokens", 0),
            stop_reason=data.get("stop_reason"),
        )
        return Reply("", usage, self._conversation_id, data.get("warning"), waiting=waiting)


def _add_result(form: ResponseForm, result: Mapping[str, Any]) -> None:
    for step in result.get("steps", ()):
        form.output.add(ToolUse(step["id"], step["name"], step["input"]))
        if step.get("content") is not None:
            form.output.add(_result(step))
    form.output.add(str(result["response"]))


def _result(data: Mapping[str, Any]) -> ToolResult:
    return ToolResult(data["id"], ({"type": "text", "text": data["content"]},), is_error=data.get("is_error") is True)


def _usage_of_result(result: Mapping[str, Any]) -> Usage:
    written = result.get("output_tokens", 0)
    return Usage(
        uncached_tokens=result["tokens_used"] - written, output_tokens=written, stop_reason=result.get("stop_reason")
    )


def _failed(code: str) -> str:
    return _CANCELLED if code == _CANCELLED else "failed"
