"""Writes the events of one attempt at a task."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from agent_service.agent.messages import sendable
from agent_service.agent.tools import ToolResult, ToolUse
from agent_service.chat.approval_record import WaitingCall
from agent_service.tasks.event_record import (
    Sent,
    restarted_event,
    resumed_event,
    step_events,
    text_event,
    tool_event,
    waiting_event,
    whole_event,
)
from agent_service.tasks.record import Claim, LastEvents

# Text is stored in events of at most so many characters.
_MOST_CHARACTERS = 4096

# As many bytes of events are kept in Redis; the events before are then replaced by one with the whole text. If the text
# is longer, so many bytes as it has.
_KEPT_BYTES = 4 * 1024 * 1024

# As many bytes are kept here while Redis is away.
_PENDING_BYTES = 1024 * 1024

# Replies of `lua/append_events.lua`.
_MISSING, _NOT_OURS = -1, -2

_HIGH_SURROGATES = ("\ud800", "\udbff")


class EventWriter:
    """Collects the events of an attempt until they are sent.

    What earlier attempts have sent is compared with what this one has: text that is equal is not sent again. Where it
    differs, a `restarted` event has the text that is right.
    """

    def __init__(
        self,
        claim: Claim,
        sent: Sent,
        wrote: Callable[["EventWriter"], None],
        send_now: Callable[[], Awaitable[None]],
        *,
        lost: bool,
    ) -> None:
        """Take what earlier attempts have sent.

        Args:
            claim: the attempt.
            sent: what they have sent.
            wrote: called when there is something to send.
            send_now: sends it, or raises StateUnavailableError.
            lost: whether their events are lost.
        """
        self.claim = claim
        self._sent = sent
        self._wrote = wrote
        self._send_now = send_now
        # Text that clients have, and this attempt has not produced yet.
        self._ahead = sent.text
        self._matched = 0
        self._pieces: list[str] = []
        self._held = ""
        self._texts: list[str] = []
        self._characters = 0
        self._events: list[str] = []
        self._before = claim.events
        # The first of `_events` were sent, and Redis has not confirmed them: they may not change.
        self._unconfirmed = 0
        self._first_is_whole = False
        self._needs_whole = lost
        self._bytes = 0
        self._kept_bytes = 0
        self._kept_most = _KEPT_BYTES
        self._ours = True
        self._ends = False
        if (claim.attempt > 1 or claim.events) and not sent.waits:
            self._push(resumed_event(claim.attempt))

    @property
    def is_open(self) -> bool:
        """Whether the task belongs to the attempt, and more may be sent."""
        return self._ours

    def go_on(self, text: str, steps: Iterable[Mapping[str, Any]]) -> None:
        """Take the turn so far: its text, and its tool calls."""
        self.text(text)
        for step in steps:
            for event in step_events(step, self._sent):
                self._push(event)
            self._sent.calls.add(step["id"])
            if "content" in step:
                self._sent.results.add(step["id"])

    def text(self, text: str) -> None:
        """Take a piece of text."""
        text = self._held + text
        self._held = ""
        if text and _HIGH_SURROGATES[0] <= text[-1] <= _HIGH_SURROGATES[1]:
            # The other half of the character is in the next piece.
            text, self._held = text[:-1], text[-1]
        if text:
            self._text(sendable(text))

    def note(self, piece: ToolUse | ToolResult) -> None:
        """Take a tool call, or the result of one. Those that clients have received are not sent again."""
        known = self._sent.calls if isinstance(piece, ToolUse) else self._sent.results
        if piece.id in known:
            return
        self._settle()
        known.add(piece.id)
        self._push(tool_event(piece))

    async def flush(self) -> None:
        """Send all events so far.

        Raises:
            StateUnavailableError: when Redis is unavailable.
        """
        self._ends = False
        self._seal()
        while self._ours and (self._events or self._needs_whole):
            self._wrote(self)
            await self._send_now()

    async def last(self, waiting: Sequence[WaitingCall] = ()) -> LastEvents:
        """Return the events that end the attempt, for the script that ends it; this may be called again.

        `waiting` are the calls with whose approval the turn goes on.

        Raises:
            StateUnavailableError: when Redis is unavailable.
        """
        self._settle()
        if self._unconfirmed or self._needs_whole:
            await self.flush()
        self._seal()
        self._ends = True
        more = (waiting_event(waiting, self.claim.conversation_id),) if waiting else ()
        return LastEvents(self._before, self._first_is_whole, (*self._events, *more))

    def close(self) -> None:
        """Send nothing more."""
        self._ours = False
        self._events.clear()

    def lost(self) -> None:
        """Send the whole text again, because the stored events are lost."""
        self._events.clear()
        self._bytes = self._unconfirmed = 0
        self._first_is_whole = False
        self._needs_whole = True

    def batch(self) -> LastEvents | None:
        """Return the events to send now; None if there are none."""
        self._seal()
        if self._needs_whole and not self._unconfirmed:
            self._make_whole()
        if not self._ours or self._ends or not self._events:
            return None
        self._unconfirmed = self._unconfirmed or len(self._events)
        return LastEvents(self._before, self._first_is_whole, tuple(self._events[: self._unconfirmed]))

    def replied(self, reply: int) -> None:
        """Take the reply of Redis to the last batch."""
        if reply == _NOT_OURS:
            self._ours = False
            self._events.clear()
        elif reply == _MISSING:
            self.lost()
        else:
            done, self._unconfirmed = self._unconfirmed, 0
            self._bytes -= sum(map(len, self._events[:done]))
            del self._events[:done]
            self._first_is_whole = False
            self._before = reply
        if self._ours and (self._events or self._texts or self._needs_whole):
            self._wrote(self)

    def _text(self, text: str) -> None:
        self._pieces.append(text)
        if self._matched == len(self._ahead):
            self._send_text(text)
            return
        left = len(self._ahead) - self._matched
        if not self._ahead.startswith(text[:left], self._matched):
            self._restart()
            return
        self._matched += min(left, len(text))
        if len(text) > left:
            self._send_text(text[left:])

    def _settle(self) -> None:
        """Correct the text that clients have, if it goes further than that of this attempt."""
        if self._held:
            self._text(sendable(self._held))
            self._held = ""
        if self._matched < len(self._ahead):
            self._restart()

    def _restart(self) -> None:
        self._matched = len(self._ahead)
        self._push(restarted_event("".join(self._pieces)))

    def _send_text(self, text: str) -> None:
        self._texts.append(text)
        self._characters += len(text)
        if self._characters >= _MOST_CHARACTERS:
            self._seal()
        self._wrote(self)

    def _seal(self) -> None:
        """Make events of the collected text."""
        text, self._texts, self._characters = "".join(self._texts), [], 0
        for start in range(0, len(text), _MOST_CHARACTERS):
            self._add(text_event(text[start : start + _MOST_CHARACTERS]))

    def _push(self, event: str) -> None:
        self._seal()
        self._add(event)
        self._wrote(self)

    def _add(self, event: str) -> None:
        if not self._ours or self._needs_whole:
            # The whole event has the content of this one.
            return
        self._events.append(event)
        self._bytes += len(event)
        self._kept_bytes += len(event)
        if self._bytes > _PENDING_BYTES or self._kept_bytes > self._kept_most:
            del self._events[self._unconfirmed :]
            self._bytes = sum(map(len, self._events))
            self._needs_whole = True

    def _make_whole(self) -> None:
        self._needs_whole = False
        self._first_is_whole = True
        text = "".join(self._pieces) + self._ahead[self._matched :]
        event = whole_event(Sent(text, self._sent.calls, self._sent.results))
        self._events = [event]
        self._bytes = self._kept_bytes = len(event)
        self._kept_most = max(_KEPT_BYTES, 2 * len(event))
