"""The events of a task as updates of A2A. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from a2a.types.a2a_pb2 import Message, Part, TaskArtifactUpdateEvent, TaskState, TaskStatusUpdateEvent

from agent_service.chat.approval_record import WaitingCall
from agent_service.compat.a2a.outgoing import (
    agent_message,
    answer_artifact,
    data_part,
    error_parts,
    named,
    state_of_failure,
    status,
    waiting_call,
    waiting_parts,
)

Update = TaskArtifactUpdateEvent | TaskStatusUpdateEvent

_TOOLS = frozenset({"tool_use", "tool_result"})


class Updates:
    """Translates the events of one task, in their order."""

    def __init__(self, task_id: str, context_id: str) -> None:
        self._task_id = task_id
        self._context_id = context_id
        self._texts: list[str] = []
        self._messages = 0
        self._works = False

    def of(self, event: Mapping[str, Any]) -> Iterator[Update]:
        """Yield the updates for an event; none for one of another type. `waits` has that for `input_required`."""
        kind = event["type"]
        if kind in {"text", "restarted"}:
            if not self._works:
                yield self._status(TaskState.TASK_STATE_WORKING)
            # A client that has text of an earlier attempt, or of an earlier stream, replaces it.
            if kind == "restarted":
                self._texts.clear()
            yield self._text(event["content"], append=bool(self._texts))
            self._texts.append(event["content"])
        elif kind in _TOOLS:
            yield self._status(TaskState.TASK_STATE_WORKING, [data_part(event)])
        elif kind == "resumed":
            update = self._status(TaskState.TASK_STATE_WORKING)
            update.metadata.update({"attempt": event.get("attempt", 0)})
            yield update
        elif kind == "error":
            yield self._status(state_of_failure(event.get("code")), error_parts(event))
        elif kind == "done":
            if self._texts:
                # ADK keeps nothing of an answer but its last chunk, which replaces the others.
                yield self._text("".join(self._texts), append=False, last_chunk=True)
            update = self._status(TaskState.TASK_STATE_COMPLETED)
            update.metadata.update(
                named(
                    event,
                    input_tokens="inputTokens",
                    output_tokens="outputTokens",
                    stop_reason="stopReason",
                    warning="warning",
                )
            )
            yield update

    def waits(self, waiting: Iterable[WaitingCall]) -> TaskStatusUpdateEvent:
        """Return the update for a task that waits for the approval of these calls."""
        return self._status(TaskState.TASK_STATE_INPUT_REQUIRED, waiting_parts(map(waiting_call, waiting)))

    def _text(self, text: str, *, append: bool, last_chunk: bool = False) -> TaskArtifactUpdateEvent:
        return TaskArtifactUpdateEvent(
            task_id=self._task_id,
            context_id=self._context_id,
            artifact=answer_artifact(text),
            append=append,
            last_chunk=last_chunk,
        )

    def _status(self, state: TaskState, parts: list[Part] | None = None) -> TaskStatusUpdateEvent:
        self._works = state == TaskState.TASK_STATE_WORKING
        return TaskStatusUpdateEvent(
            task_id=self._task_id, context_id=self._context_id, status=status(state, self._message(parts))
        )

    def _message(self, parts: list[Part] | None) -> Message | None:
        if not parts:
            return None
        self._messages += 1
        return agent_message(self._task_id, self._context_id, f"event-{self._messages}", parts)
