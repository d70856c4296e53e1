"""A chat completion that waits for approvals: what it says, and how it is recognized in a history. Pure.

Clients of this API cannot go on with an answer. So the user writes that to it, once the call is decided, and the
history has which turn it is.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from agent_service.agent.messages import BREAK
from agent_service.chat.approval_record import WaitingCall
from agent_service.telemetry.redact import printable

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_NOTICE = re.compile(
    rf"\s*\[Waits for an approval: [^\n]*?\((?P<turn>{_UUID})\.[0-9]+\)[^\n]*"
    rf" POST /chat/(?P<conversation>client-{_UUID})/approvals[^\n]*\]\s*\Z"
)
_GO_ON = "go on"

# A notice names at most this many calls; the first one identifies the turn.
_MOST_CALLS = 16


@dataclass(frozen=True, slots=True)
class Paused:
    """A turn that waits, in the history of a client."""

    conversation_id: str
    turn_id: str


def notice(waiting: Sequence[WaitingCall], text: str, conversation_id: str) -> str:
    """Return the last sentence of an answer that waits, which has `text` so far; empty if no call waits."""
    if not waiting:
        return ""
    names = ", ".join(f"{printable(call.tool)} ({call.id})" for call in waiting[:_MOST_CALLS])
    path = f"/chat/{conversation_id}/approvals"
    sentence = f"[Waits for an approval: {names}. To decide: POST {path}. After the decision, write: {_GO_ON}]"
    return (BREAK if text and not text.endswith("\n") else "") + sentence


def paused_in(answer: str, message: str) -> Paused | None:
    """Return the turn that a message goes on with after an answer that waited; None if it does not."""
    if message.strip().rstrip(".!").casefold() != _GO_ON:
        return None
    found = _NOTICE.search(answer)
    return None if found is None else Paused(found["conversation"], found["turn"])


def without_notice(answer: str) -> str:
    """Return an answer without the sentence, which is not for the model."""
    return _NOTICE.sub("", answer)
