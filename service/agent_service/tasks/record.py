"""The record of a task: its state as its owner and its worker see it, and as it is stored."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from agent_service.agent.details import NO_DETAILS, Api, Details, read_details

Status = Literal["pending", "running", "input_required", "completed", "failed"]
STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True, slots=True)
class TaskError:
    """Why a task failed: a code for programs, such as `cancelled` or `timed_out`, and a sentence for people."""

    code: str
    message: str

    def json(self) -> str:
        """Return the error in its stored form."""
        return json.dumps({"code": self.code, "message": self.message})


@dataclass(frozen=True, slots=True)
class Task:
    """A task as its owner sees it. Times are seconds since 1970. `result` and `error` are unset until it ends.

    `approval` is the id of the turn in which it waits, or waited, for approvals, and `conversation_id` that of the
    conversation to which its exchange is added; empty if there is none. `api` is the protocol of its client.
    """

    id: str
    status: Status
    attempts: int
    created: float
    started: float | None
    finished: float | None
    result: Mapping[str, Any] | None
    error: Mapping[str, str] | None
    approval: str = ""
    message: str = ""
    conversation_id: str = ""
    api: Api = "native"


@dataclass(frozen=True, slots=True)
class Claim:
    """A task as its worker sees it, with the number of the attempt and the seconds left until the deadline.

    A `probe` checks for all workers whether the model API accepts tasks again. `approval` is the id of the turn that
    waited for approvals, in which the task goes on; empty if there is none. With `has_progress`, it goes on from
    what an earlier attempt kept, which is later than these approvals. `events` is the number of events that earlier
    attempts sent. `conversation_id` is that of its conversation, and `question` what the client sent besides the
    message, as stored; empty if there is none. With `begins_conversation`, its conversation has no messages yet.
    """

    id: str
    attempt: int
    seconds_left: float
    message: str
    traceparent: str
    probe: bool
    approval: str = ""
    owner: str = ""
    has_progress: bool = False
    events: int = 0
    conversation_id: str = ""
    question: str = ""
    begins_conversation: bool = False

    @property
    def details(self) -> Details:
        """What the client sent besides the message."""
        return read_details(self.question) if self.question else NO_DETAILS


@dataclass(frozen=True, slots=True)
class Submitted:
    """A task that was accepted. With a `claim`, it runs already, and the caller is its worker."""

    id: str
    status: Status
    conversation_id: str = ""
    claim: Claim | None = None


@dataclass(frozen=True, slots=True)
class LastEvents:
    """The last events of an attempt, as JSON, which come after the first `before` events of the task.

    With `whole`, the first one has the content of all before it, which are removed.
    """

    before: int = 0
    whole: bool = False
    events: tuple[str, ...] = ()


NO_EVENTS = LastEvents()


# The first second of the year 9999. No task has a time this late.
_LATEST_SECONDS = 253_370_764_800


def parse_task(task_id: str, record: Mapping[bytes, bytes]) -> Task:
    """Return the task in a record. Raise ValueError, KeyError or TypeError if none of our scripts wrote the record."""

    def seconds(name: bytes) -> float | None:
        return _seconds(record[name]) if name in record else None

    return Task(
        id=task_id,
        status=parse_status(record[b"status"].decode()),
        attempts=int(record[b"attempts"]),
        created=_seconds(record[b"created"]),
        started=seconds(b"started"),
        finished=seconds(b"finished"),
        result=parse_result(record[b"result"]) if b"result" in record else None,
        error=parse_error(record[b"error"]) if b"error" in record else None,
        approval=record.get(b"approval", b"").decode("ascii"),
        message=record.get(b"message", b"").decode("utf-8", "replace"),
        conversation_id=record.get(b"conversation", b"").decode("ascii"),
        api=_api(record.get(b"question", b"{}")),
    )


def parse_claim(reply: Sequence[Any]) -> Claim:
    """Return the claim in the reply of a script (`take` in `lua/task.lua`).

    Raises:
        ValueError, LookupError, TypeError: if the record is damaged.
    """
    task_id, attempt, left, message, trace, probe, turn, owner, kept, events, conversation, question = reply
    claim = Claim(
        id=task_id.decode("ascii", "replace"),
        attempt=attempt,
        seconds_left=left / 1000,
        message=message.decode(),
        traceparent=trace.decode("ascii", "replace"),
        probe=bool(probe),
        approval=turn.decode("ascii", "replace"),
        owner=owner.decode(),
        has_progress=bool(kept),
        events=events,
        conversation_id=conversation.decode("ascii"),
        question=question.decode(),
    )
    # Raises if it cannot be read.
    _ = claim.details
    return claim


def _api(question: bytes) -> Api:
    """Return the protocol of a question; if it is damaged, the task still has a state to show."""
    try:
        return read_details(question).api
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "native"


def _seconds(milliseconds: bytes) -> float:
    seconds = int(milliseconds) / 1000
    if not 0 <= seconds < _LATEST_SECONDS:
        raise ValueError("is not a valid time")
    return seconds


def parse_error(text: bytes) -> dict[str, Any]:
    """Return the stored error of a task. Raise ValueError if it is not one."""
    return _object(text, code=str, message=str)


def parse_result(text: bytes) -> dict[str, Any]:
    """Return the stored result of a task. Raise ValueError or TypeError if it is not one."""
    result = _object(text, response=str, tokens_used=int)
    if not all(isinstance(result.get(name), str | None) for name in ("stop_reason", "warning", "model", "provider")):
        raise TypeError("has an invalid stop reason, warning, model or provider")
    if not isinstance(result.get("output_tokens", 0), int):
        raise TypeError("has an invalid number of tokens")
    steps = result.get("steps", [])
    if not isinstance(steps, list) or not all(map(_is_step, steps)):
        raise TypeError("has invalid steps")
    return result


def _is_step(step: object) -> bool:
    if not isinstance(step, dict):
        return False
    known = {"id": str, "name": str, "input": dict}
    optional = {"is_error": bool | None, "content": str | None}
    return all(isinstance(step.get(name), kind) for name, kind in (known | optional).items())


def _object(text: bytes, **fields: type) -> dict[str, Any]:
    """Return the JSON object in a record; raise ValueError unless these fields have these types."""
    value = json.loads(text)
    if b"\\ud" in text.lower():
        # Half a surrogate pair cannot be sent. This raises UnicodeEncodeError, a ValueError.
        json.dumps(value, ensure_ascii=False).encode()
    if not isinstance(value, dict) or not all(isinstance(value.get(name), kind) for name, kind in fields.items()):
        raise ValueError("is not the expected object")
    return value


def parse_status(text: str) -> Status:
    """Return the status with this name. Raise ValueError if there is none."""
    for status in STATUSES:
        if status == text:
            return status
    raise ValueError("is not a status")
