"""The record of a task: its state as its owner and its worker see it, and as it is stored."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

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

    `approval` is the id of the turn in which it waits, or waited, for approvals; empty if there is none.
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


@dataclass(frozen=True, slots=True)
class Claim:
    """A task as its worker sees it, with the number of the attempt and the seconds left until the deadline.

    A `probe` checks for all workers whether the model API accepts tasks again. `approval` is the id of the turn that
    waited for approvals, in which the task goes on; empty if there is none.
    """

    id: str
    attempt: int
    seconds_left: float
    message: str
    traceparent: str
    probe: bool
    approval: str = ""
    owner: str = ""


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
        result=_result(record[b"result"]) if b"result" in record else None,
        error=_object(record[b"error"], code=str, message=str) if b"error" in record else None,
        approval=record.get(b"approval", b"").decode("ascii"),
    )


def _seconds(milliseconds: bytes) -> float:
    seconds = int(milliseconds) / 1000
    if not 0 <= seconds < _LATEST_SECONDS:
        raise ValueError("is not a valid time")
    return seconds


def _result(text: bytes) -> dict[str, Any]:
    result = _object(text, response=str, tokens_used=int)
    if not isinstance(result.get("stop_reason"), str | None):
        raise TypeError("has an invalid stop reason")
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
