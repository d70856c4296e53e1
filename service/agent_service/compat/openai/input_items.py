"""The items of the input of a response. Pure."""

from dataclasses import dataclass

from agent_service.agent.messages import sendable
from agent_service.compat.openai.content import output_blocks, texts, user_blocks
from agent_service.compat.openai.errors import InvalidRequestError, unsupported
from agent_service.compat.openai.fields import Fields
from agent_service.compat.openai.history import History
from agent_service.compat.openai.ids import AnyPlace, of_approval
from agent_service.compat.openai.tools import NOT_TAKEN, call_block

_INPUT = "input"
_ROLES = "'system', 'developer', 'user', 'assistant'"
_TYPES = "'message', 'function_call', 'function_call_output', 'mcp_approval_response'"

# What a client sends back of an earlier response: the agent's own steps, of which the answer's text has what matters.
_OWN_STEPS = frozenset({"mcp_call", "mcp_list_tools", "mcp_approval_request", "reasoning"})

# A longer reason is refused by our own API, too.
_LONGEST_REASON = 2000


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision on a tool call; `call` is our own id of it."""

    place: AnyPlace
    call: str
    approve: bool
    reason: str


class InputItems:
    """Collects the messages, and the decisions that are the last items.

    A decision before an answer was made then, and is skipped.
    """

    def __init__(self, *, takes_calls: bool) -> None:
        """Begin. `takes_calls` is whether the request has tools of the client."""
        self.history = History(_INPUT)
        self.decisions: tuple[Decision, ...] = ()
        self._takes_calls = takes_calls

    def read(self, body: Fields) -> None:
        """Take the input of a request.

        Raises:
            InvalidRequestError: if it is invalid, or something that this agent does not take.
        """
        value = body.raw(_INPUT)
        if isinstance(value, str):
            self.history.add_user([{"type": "text", "text": sendable(value)}] if value.strip() else [], _INPUT)
            return
        if not value:
            raise InvalidRequestError("Missing required parameter: 'input'.", _INPUT, code="missing_required_parameter")
        if not isinstance(value, list):
            body.refuse_type(_INPUT, "a string or an array")
        for item in body.objects(_INPUT) or ():
            self._add(item)

    def _add(self, item: Fields) -> None:
        kind = item.text("type") or "message"
        if kind == "message":
            self._add_message(item)
        elif kind == "mcp_approval_response":
            self.decisions = (*self.decisions, _decision(item))
        elif kind in _OWN_STEPS:
            self.decisions = ()
        elif kind in {"function_call", "function_call_output"}:
            self._add_call(kind, item)
        elif kind == "item_reference":
            raise unsupported(item.path, "this agent stores no items. Send the item itself.")
        else:
            item.refuse_value("type", _TYPES)

    def _add_message(self, item: Fields) -> None:
        role = item.needed_text("role")
        if role in {"system", "developer"}:
            self.history.instruct(texts(item))
        elif role == "assistant":
            self.decisions = ()
            self.history.add_assistant(texts(item), (), item.path)
        elif role == "user":
            if self.decisions:
                raise InvalidRequestError(
                    f"Invalid '{item.path}': after 'mcp_approval_response' there can be no message. The turn that "
                    "waits goes on with the decision alone.",
                    item.path,
                    code="invalid_value",
                )
            self.history.add_user(user_blocks(item), item.path)
        else:
            item.refuse_value("role", _ROLES)

    def _add_call(self, kind: str, item: Fields) -> None:
        if not self._takes_calls:
            raise unsupported(item.path, f"the request has no 'tools'; {NOT_TAKEN}")
        call = item.needed_text("call_id")
        if kind == "function_call":
            self.history.add_assistant("", [call_block(call, item)], item.path)
        else:
            self.history.add_result(call, output_blocks(item), item.path)


def _decision(item: Fields) -> Decision:
    name = item.needed_text("approval_request_id")
    found = of_approval(name)
    path = item.at("approval_request_id")
    if found is None:
        raise InvalidRequestError(
            f"Invalid '{path}': this agent did not request this approval.", path, code="invalid_value", status=404
        )
    approve = item.flag("approve")
    if approve is None:
        item.refuse_type("approve", "a boolean")
    reason = item.text("reason") or ""
    if len(reason) > _LONGEST_REASON:
        raise InvalidRequestError(
            f"Invalid '{item.at('reason')}': a reason has at most {_LONGEST_REASON} characters.", item.at("reason")
        )
    return Decision(*found, approve=approve, reason=reason)
