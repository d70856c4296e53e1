"""An answer that waits for approvals: what it says, and how it is recognized when the client sends it back. Pure.

A client of the Messages API goes on with an answer that stopped with `pause_turn` by sending it back as it is. The
answer itself has to say which turn it is: its last text does.
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
_LAST = " Send the same messages with this answer to go on."

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


def _match(text: str) -> re.Match[str] | None:
    return _REFERENCE.search(text) if text.startswith(_FIRST) and text.endswith(_LAST) else None
