"""Approvals through the client: its user is asked about each waiting call (MCP, "Elicitation").

In the revision 2026-07-28 the request ends with the questions, and the client repeats it with the answers. Earlier
revisions need a session that lives in one process for that, so their clients get the waiting calls as the result.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mcp_types as types

from agent_service.agent.messages import sendable
from agent_service.chat.approval_errors import UnknownApprovalError
from agent_service.chat.approval_record import WaitingCall, parse_call_id

_LONGEST_INPUT = 4000

_LONGEST_REASON = 2000

_DECISION: types.ElicitRequestedSchema = {
    "type": "object",
    "properties": {
        "approve": {"type": "boolean", "title": "Approve", "description": "Whether the call may be made."},
        "reason": {"type": "string", "title": "Reason", "description": "Reason of a rejection, for the agent."},
    },
    "required": ["approve"],
}


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision on a call, with the reason of a rejection."""

    approve: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of a user to the questions about the calls of a turn, by call. A dismissed question has None."""

    conversation_id: str
    text: str
    turn_id: str
    decisions: Mapping[str, Decision | None]


def can_ask(capabilities: types.ClientCapabilities | None) -> bool:
    """Return whether a client shows forms. One that names no mode does (MCP, "Elicitation")."""
    elicitation = capabilities.elicitation if capabilities is not None else None
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)


def questions(conversation_id: str, text: str, waiting: Sequence[WaitingCall]) -> types.InputRequiredResult:
    """Return the questions about the calls of a turn; the client sends its state back with the answers.

    Args:
        conversation_id: conversation of the turn.
        text: what the agent has answered so far.
        waiting: the calls.
    """
    state = json.dumps({"conversation_id": conversation_id, "text": text}, separators=(",", ":"))
    return types.InputRequiredResult(input_requests={call.id: _question(call) for call in waiting}, request_state=state)


def _question(call: WaitingCall) -> types.ElicitRequest:
    arguments = json.dumps(call.input, ensure_ascii=False, indent=1)
    if len(arguments) > _LONGEST_INPUT:
        arguments = f"{arguments[:_LONGEST_INPUT]} […]"
    message = f"The agent wants to call the tool {call.tool} of {call.server} with these arguments:\n{arguments}"
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=_DECISION))


def answers(params: types.CallToolRequestParams) -> Answers | None:
    """Return the answers in a request; None if there are none.

    Raises:
        ValueError: if they belong to no questions of ours. The message is for the model.
    """
    responses = params.input_responses
    if responses is None and params.request_state is None:
        return None
    try:
        state = json.loads(params.request_state or "")
        conversation_id, text = str(state["conversation_id"]), sendable(str(state["text"]))
        (turn_id,) = {parse_call_id(call)[0] for call in responses or {}}
    except (ValueError, LookupError, TypeError, UnknownApprovalError):
        raise ValueError("These are no answers to questions of this agent; ask again.") from None
    return Answers(conversation_id, text, turn_id, {call: _decision(each) for call, each in (responses or {}).items()})


def _decision(response: types.InputResponse) -> Decision | None:
    if not isinstance(response, types.ElicitResult) or response.action == "cancel":
        return None
    content = response.content or {}
    approve = response.action == "accept" and content.get("approve") is True
    return Decision(approve, sendable(str(content.get("reason") or ""))[:_LONGEST_REASON])
