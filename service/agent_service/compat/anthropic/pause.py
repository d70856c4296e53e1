"""An answer that waits for approvals: what it says, and how it is recognized when the client sends it back. Pure.

A client of the Messages API goes on with an answer that stopped with `pause_turn` by sending it back as it is. The
answer itself has to say which turn it is: its last text does. Clients that do not know this can send a message of the
user after it that says to go on.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent_service.chat.approval_record import WaitingCall, parse_call_id
from agent_service.telemetry.redact import printable

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_FIRST = "Waiting for the approval of "
_REFERENCE = re.compile(rf"\(conversation (?P<conversation>client-{_UUID}), approval (?P<turn>{_UUID})\.[0-9]+\)")
_LAST = " After the decision, send this answer back, or write: go on"

# What a user may write in a client that cannot send an answer back by itself.
_GO_ON = "go on"

# A notice names at most this many calls; the first one identifies the turn.
_MOST_CALLS = 16


@dataclass(frozen=True, slots=True)
class Paused:
    """A turn that waits, in the answer that a client sends back."""

    conversation_id: str
    turn_id: str


def notice(waiting: Sequence[WaitingCall]) -> str:
    """Return the last text of an answer that waits for approvals."""
    calls = "; ".join(
        f"{printable(call.tool)} of {printable(call.server)} (conversation {call.place.id}, approval {call.id})"
        for call in waiting[:_MOST_CALLS]
    )
    more = f"; {len(waiting) - _MOST_CALLS} more" if len(waiting) > _MOST_CALLS else ""
    return f"{_FIRST}{calls}{more}.{_LAST}"


def is_notice(block: Mapping[str, Any]) -> bool:
    """Return whether a block of an earlier answer is such a text, which is not for the model."""
    return block["type"] == "text" and _match(block["text"]) is not None


def paused_in(content: object) -> Paused | None:
    """Return the turn that waits at the end of an answer; None if there is none."""
    last = content[-1] if isinstance(content, list) and content else None
    if not isinstance(last, dict) or last.get("type") != "text":
        return None
    found = _match(last["text"])
    return None if found is None else Paused(found["conversation"], parse_call_id(f"{found['turn']}.1")[0])


def says_go_on(content: object) -> bool:
    """Return whether a message of the user only says to go on. Programs may add texts before the user's own."""
    last = content[-1] if isinstance(content, list) and content else content
    text = last.get("text") if isinstance(last, dict) and last.get("type") == "text" else last
    return isinstance(text, str) and text.strip().rstrip(".!").casefold() == _GO_ON


def _match(text: str) -> re.Match[str] | None:
    return _REFERENCE.search(text) if text.startswith(_FIRST) and text.endswith(_LAST) else None
