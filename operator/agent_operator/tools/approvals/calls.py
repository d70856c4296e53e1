"""Tool calls that wait for an approval, and decisions on them, as an agent reports them and as users see them. Pure."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote

from pydantic import BaseModel

# Seconds of the units in which a span is shown, with the largest number of each, as kubectl shows ages.
_UNITS = ((1, "s", 120), (60, "m", 120), (3600, "h", 48))
_DAY = 86_400


@dataclass(frozen=True)
class Place:
    """Where a call waits: a conversation or a task, with its ID."""

    kind: Literal["conversation", "task"]
    id: str

    @property
    def path(self) -> str:
        """The path of the agent API for decisions."""
        return f"{'chat' if self.kind == 'conversation' else 'tasks'}/{quote(self.id, safe='')}/approvals"

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class Waiting(BaseModel):
    """A call that waits, as the agent lists it (`GET /approvals`)."""

    id: str
    client: str
    conversation_id: str | None = None
    task_id: str | None = None
    tool: str
    server: str
    input: dict[str, Any]
    created_at: datetime
    expires_at: datetime

    @property
    def place(self) -> Place:
        """Where it waits."""
        if self.task_id is not None:
            return Place("task", self.task_id)
        return Place("conversation", self.conversation_id or "")


class Page(BaseModel):
    """A page of the list."""

    approvals: list[Waiting]
    next_cursor: str | None = None


def to_documents(calls: Sequence[Waiting]) -> list[dict[str, Any]]:
    """Return the calls in the form of the agent API."""
    return [call.model_dump(mode="json") for call in calls]


def to_text(calls: Sequence[Waiting], now: datetime) -> str:
    """Return the calls for people, with their exact arguments: these are what is approved."""
    return "\n\n".join(_described(call, now) for call in calls)


def _described(call: Waiting, now: datetime) -> str:
    rows = (
        ("ID", call.id),
        ("Tool", f"{call.tool} (server {call.server})"),
        ("Arguments", json.dumps(call.input, ensure_ascii=False)),
        ("Where", str(call.place)),
        ("Client", call.client),
        ("Age", _span((now - call.created_at).total_seconds())),
        ("Expires in", _span((call.expires_at - now).total_seconds())),
    )
    return "\n".join(f"{title + ':':<12}{_one_line(value)}" for title, value in rows)


def _one_line(text: str) -> str:
    # The agent chooses these texts: a line break must not look like another field.
    return text.replace("\n", "\\n")


def _span(seconds: float) -> str:
    """Return a span as kubectl shows it, such as 90s, 12m, 3h or 2d."""
    whole = max(int(seconds), 0)
    for unit, letter, most in _UNITS:
        if whole < most * unit:
            return f"{whole // unit}{letter}"
    return f"{whole // _DAY}d"


def outcome(call_id: str, answer: Mapping[str, Any], *, approve: bool) -> Iterator[str]:
    """Yield the lines about a decision, from the agent's answer to it.

    The answer is the rest of the turn, a list of what still waits, or the task.
    """
    decided = f"{'Approved' if approve else 'Rejected'} {call_id}."
    left = [call for call in answer.get("approvals") or [] if isinstance(call, Mapping)]
    status = answer.get("status")
    if "task_id" in answer:
        yield f"{decided} Task {answer['task_id']}: {status}."
    elif left:
        yield decided
    elif status == "decided":
        yield f"{decided} The turn goes on when the client that asked continues it."
    else:
        yield f"{decided} The agent continued:"
        yield str(answer.get("response", ""))
    if left:
        yield "These calls of the turn still wait:"
        yield from (f"  {call.get('id')}  {call.get('tool')}" for call in left)
