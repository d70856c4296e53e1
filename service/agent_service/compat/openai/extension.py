"""What OpenAI's API has no field for, in the field `portside`, as our own API has it. Pure."""

from collections.abc import Mapping
from typing import Any

from agent_service.chat.dialogue import Reply
from agent_service.chat.steps import shown_call

FIELD = "portside"


def of_reply(reply: Reply, *, streamed: bool = False) -> Mapping[str, Any]:
    """Return the field of an answer, with what the answer of `POST /chat` has; empty if it has nothing.

    A `streamed` answer has had its tool calls before.
    """
    found: dict[str, Any] = {}
    if reply.steps and not streamed:
        found["steps"] = [dict(step) for step in reply.steps]
    if reply.waiting:
        found["status"] = "input_required"
        found["conversation_id"] = reply.conversation_id
        found["approvals"] = [shown_call(call) for call in reply.waiting]
    elif reply.usage.cut is not None and not reply.calls:
        found["stop_reason"] = reply.usage.cut
    if reply.usage.provider is not None:
        found |= {"model": reply.usage.model, "provider": reply.usage.provider}
    if reply.warning is not None:
        found["warning"] = reply.warning
    return {FIELD: found} if found else {}
