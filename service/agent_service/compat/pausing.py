"""An answer that waits for approvals, for clients that keep the history: what it says, and how it is recognized. Pure.

The last sentence of the answer names the turn. After the decision, the user writes "go on", and the history has the
answer with that sentence. A client of the Messages API can also send the answer back as it is.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from agent_service.chat.approval_record import WaitingCall
from agent_service.telemetry.redact import printable

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_FIRST, _LAST = "Waiting for the approval of ", " After the decision, write: go on"
_NOTICE = re.compile(
    rf"\s*{_FIRST}[^\n]*?\(conversation (?P<conversation>client-{_UUID}), approval (?P<turn>{_UUID})\.[0-9]+\)"
    rf"[^\n]*{_LAST}\s*\Z"
)
_GO_ON = "go on"

# A notice names at most this many calls; the first one identifies the turn.
_MOST_CALLS = 16


@dataclass(frozen=True, slots=True)
class Paused:
    """A turn that waits, in the history of a client."""

    conversation_id: str
    turn_id: str


def notice(waiting: Sequence[WaitingCall]) -> str:
    """Return the last sentence of an answer with calls that wait for approvals."""
    calls = "; ".join(
        f"{printable(call.tool)} of {printable(call.server)} (conversation {call.place.id}, approval {call.id})"
        for call in waiting[:_MOST_CALLS]
    )
    more = f"; {len(waiting) - _MOST_CALLS} more" if len(waiting) > _MOST_CALLS else ""
    return f"{_FIRST}{calls}{more}.{_LAST}"


def paused_in(answer: str) -> Paused | None:
    """Return the turn that waits at the end of an answer; None if there is none."""
    found = _found(answer)
    return None if found is None else Paused(found["conversation"], found["turn"])


def without_notice(answer: str) -> str:
    """Return an answer without the sentence, which is not for the model."""
    found = _found(answer)
    return answer if found is None else answer[: found.start()]


def says_go_on(message: str) -> bool:
    """Return whether a message of the user only says to go on."""
    return message.strip().rstrip(".!").casefold() == _GO_ON


def _found(answer: str) -> re.Match[str] | None:
    # The sentence begins a paragraph. Only the last one is searched: an answer may be long.
    start = answer.rfind(_FIRST)
    begins = len(answer[:start].rstrip()) if start >= 0 else len(answer)
    return _NOTICE.match(answer, begins)
