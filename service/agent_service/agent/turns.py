"""The turns in progress, by which a call of the runtime to the gateway is attributed to the turn that caused it."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from agent_service.agent.messages import Usage
from agent_service.agent.tools import PendingCall

BAGGAGE = "portside.turn"
"""Member of the header `baggage` (W3C Baggage) that carries a turn's id to the runtime and on to the gateway."""


@dataclass(slots=True)
class Turn:
    """A turn in progress.

    `request_id` and `trace_id` come from the client where it sent them, so several turns can share them; `id` is ours.
    `traceparent` is the turn's own span (W3C Trace Context). `deadline` is in seconds since 1970. `token` is the
    caller's own credential, for tools that it is forwarded to. The gateway adds the tokens of each call to `usage`,
    counts the tool calls, and adds those that wait for an approval to `pending`.
    """

    usage: Usage
    deadline: float
    client: str | None = None
    request_id: str | None = None
    trace_id: str | None = None
    traceparent: str = ""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    tool_calls: int = 0
    token: str | None = field(default=None, repr=False)
    pending: list[PendingCall] = field(default_factory=list)


class Turns:
    """The turns of this process."""

    def __init__(self) -> None:
        self._turns: dict[str, Turn] = {}

    @contextmanager
    def begin(self, turn: Turn) -> Iterator[Turn]:
        """Register the turn while the context lasts."""
        self._turns[turn.id] = turn
        try:
            yield turn
        finally:
            del self._turns[turn.id]

    def find(self, *, turn_id: str | None, trace_id: str | None, request_id: str | None) -> Turn | None:
        """Return the turn with this id; else the only one with this trace id; else the only one with this request id.

        Returns None if there is no such turn.
        """
        if turn_id is not None and turn_id in self._turns:
            return self._turns[turn_id]
        return self._only("trace_id", trace_id) or self._only("request_id", request_id)

    def _only(self, name: str, value: str | None) -> Turn | None:
        if value is None:
            return None
        # There are at most as many as requests in flight, and most calls carry the id.
        found = [turn for turn in self._turns.values() if getattr(turn, name) == value]
        return found[0] if len(found) == 1 else None
