"""Turns that wait for approvals: as their approvers and the service see them, and as they are stored. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from agent_service.agent.details import NO_DETAILS, Details, read_details, written_details
from agent_service.agent.messages import Exchange
from agent_service.agent.tools import Decision, PendingCall, Resumption, Suspension, ToolResult, ToolUse, Verdict
from agent_service.chat.approval_errors import UnknownApprovalError
from agent_service.chat.conversations import read_exchange, written_exchange
from agent_service.chat.kept_steps import can_be_sent

PlaceKind = Literal["chat", "task"]

# The first second of the year 9999. No record has a time this late.
_LATEST_SECONDS = 253_370_764_800


@dataclass(frozen=True, slots=True)
class Place:
    """What a turn belongs to: the conversation or the task with this id."""

    kind: PlaceKind
    id: str

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


@dataclass(frozen=True, slots=True)
class Suspended:
    """A turn with all that it needs to go on. `text` and `steps` are its answer so far, `tokens` what it has used."""

    owner: str
    place: Place
    message: str
    system: str | None
    history: tuple[Exchange, ...]
    suspension: Suspension
    text: str = ""
    steps: Sequence[Mapping[str, Any]] = ()
    tokens: int = 0
    details: Details = NO_DETAILS


@dataclass(frozen=True, slots=True)
class WaitingCall:
    """A call that waits for an approval. Times are in seconds since 1970. `id` is what a decision names."""

    id: str
    owner: str
    place: Place
    tool: str
    server: str
    input: Mapping[str, Any]
    created: float
    expires: float


def call_id(turn_id: str, number: int) -> str:
    """Return the id of a call of a turn; numbers begin at 1."""
    return f"{turn_id}.{number}"


def parse_call_id(text: str) -> tuple[str, int]:
    """Return the id of the turn and the number of the call.

    Raises:
        UnknownApprovalError: if it is not the id of a call.
    """
    turn_id, _, number = text.partition(".")
    if len(turn_id) != len("00000000-0000-7000-8000-000000000000") or not number.isdecimal() or not number.isascii():
        raise UnknownApprovalError
    if len(number) > len("1000") or not int(number):
        raise UnknownApprovalError
    return turn_id, int(number)


def written_state(turn: Suspended) -> str:
    """Return the stored form of a turn, without its pending calls."""
    suspension = turn.suspension
    return json.dumps(
        {
            "message": turn.message,
            "system": turn.system,
            "history": [written_exchange(each) for each in turn.history],
            "messages": suspension.messages,
            "results": [written_result(each) for each in suspension.results],
            "steps": suspension.steps,
            "calls": suspension.calls,
            "started": suspension.started,
            "text": turn.text,
            "shown": turn.steps,
            "tokens": turn.tokens,
            "details": written_details(turn.details),
        },
        separators=(",", ":"),
    )


def written_call(call: PendingCall) -> str:
    """Return the stored form of a pending call."""
    use = call.use
    return json.dumps([use.id, use.name, use.input, call.server, call.original], separators=(",", ":"))


def written_result(result: ToolResult) -> list[Any]:
    """Return the stored form of a result."""
    return [result.id, list(result.content), result.is_error]


def read_result(value: Any) -> ToolResult:
    """Return the result in its stored form.

    Raises:
        ValueError, LookupError, TypeError: if it is not one.
    """
    use_id, content, is_error = value
    if not content or not all(isinstance(block, dict) and isinstance(block["type"], str) for block in content):
        raise TypeError("has content that is none")
    return ToolResult(_string(use_id), tuple(content), is_error=is_error is True)


def read_turn(record: Mapping[bytes, bytes]) -> Suspended:
    """Return the turn in a record.

    Raises:
        ValueError, LookupError, TypeError, AttributeError, RecursionError: if our scripts did not write the record.
    """
    state = json.loads(record[b"state"])
    # Half a surrogate pair in an escape cannot be sent. This raises UnicodeEncodeError, a ValueError.
    json.dumps(state, ensure_ascii=False).encode()
    pending = tuple(_call(record[b"call:%d" % number]) for number in _numbers(record))
    results = tuple(read_result(each) for each in state["results"])
    started = tuple(_string(each) for each in state.get("started", ()))
    ids = [each.id for each in results] + [each.use.id for each in pending] + [*started]
    answers = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": each} for each in ids]}
    if not can_be_sent([*state["messages"], answers]):
        raise ValueError("has calls without results")
    suspension = Suspension(
        messages=tuple(state["messages"]),
        results=results,
        pending=pending,
        steps=_count(state["steps"]),
        calls=_count(state["calls"]),
        started=started,
    )
    return Suspended(
        owner=record[b"owner"].decode(),
        place=_place(record),
        message=_string(state["message"]),
        system=None if state["system"] is None else _string(state["system"]),
        history=tuple(read_exchange(each) for each in state["history"]),
        suspension=suspension,
        text=_string(state["text"]),
        steps=[{**each, "id": _string(each["id"])} for each in state["shown"]],
        tokens=_count(state["tokens"]),
        details=read_details(state.get("details", "{}")),
    )


def resumed(turn: Suspended, record: Mapping[bytes, bytes], *, again: bool) -> Resumption:
    """Return a turn with the decisions in its record, and the results that an earlier process kept.

    With `again`, another process made the approved calls before: those without a result may have run.

    Raises:
        ValueError, LookupError, TypeError, AttributeError, RecursionError: if our scripts did not write the record.
    """
    decisions = {}
    kept = []
    for number, call in enumerate(turn.suspension.pending, start=1):
        verdict = _verdict(record[b"verdict:%d" % number])
        if b"result:%d" % number in record:
            kept.append(read_result(json.loads(record[b"result:%d" % number])))
        elif again and verdict == "approved":
            verdict = "lost"
        decisions[call.use.id] = Decision(verdict, record.get(b"reason:%d" % number, b"").decode())
    return Resumption(with_results(turn.suspension, kept), decisions)


def with_results(suspension: Suspension, results: Iterable[ToolResult]) -> Suspension:
    """Return a suspension with further results."""
    return replace(suspension, results=(*suspension.results, *results))


def waiting_calls(turn_id: str, record: Mapping[bytes, bytes]) -> list[WaitingCall]:
    """Return the calls of a turn that are undecided.

    Raises:
        ValueError, LookupError, TypeError, AttributeError, RecursionError: if our scripts did not write the record.
    """
    found = []
    for number in _numbers(record):
        if b"verdict:%d" % number in record or record[b"status"] != b"waiting":
            continue
        call = _call(record[b"call:%d" % number])
        found.append(
            WaitingCall(
                call_id(turn_id, number),
                record[b"owner"].decode(),
                _place(record),
                call.use.name,
                call.server,
                call.use.input,
                _seconds(record[b"created"]),
                _seconds(record[b"expires"]),
            )
        )
    return found


def _numbers(record: Mapping[bytes, bytes]) -> range:
    return range(1, int(record[b"calls"]) + 1)


def _place(record: Mapping[bytes, bytes]) -> Place:
    kind, _, name = record[b"place"].decode().partition(" ")
    for known in get_args(PlaceKind):
        if known == kind:
            return Place(known, name)
    raise ValueError("has no place")


def _call(text: bytes) -> PendingCall:
    use_id, name, arguments, server, original = json.loads(text)
    json.dumps(arguments, ensure_ascii=False).encode()
    if not isinstance(arguments, dict):
        raise TypeError("has an input that is no object")
    use = ToolUse(_string(use_id), _string(name), arguments)
    return PendingCall(use, _string(server), _string(original))


def _verdict(text: bytes) -> Verdict:
    for verdict in get_args(Verdict):
        if verdict.encode() == text:
            return verdict  # type: ignore[no-any-return]
    raise ValueError("is not a verdict")


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("is no text")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise TypeError("is no count")
    return value


def _seconds(milliseconds: bytes) -> float:
    seconds = int(milliseconds) / 1000
    if not 0 <= seconds < _LATEST_SECONDS:
        raise ValueError("is not a valid time")
    return seconds
