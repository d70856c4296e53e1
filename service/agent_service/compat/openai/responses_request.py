"""A request for a response, as a question or as decisions on tool calls. Pure.

Source: OpenAI API reference, "Create a model response".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent_service.agent.details import Details
from agent_service.compat.openai.errors import InvalidRequestError, unsupported
from agent_service.compat.openai.fields import Fields
from agent_service.compat.openai.ids import AnyPlace, of_conversation, of_response
from agent_service.compat.openai.input_items import Decision, InputItems
from agent_service.compat.openai.parameters import metadata, refuse_of_responses
from agent_service.compat.openai.tools import client_tools

_PREVIOUS, _CONVERSATION = "previous_response_id", "conversation"


@dataclass(frozen=True, slots=True)
class ResponseRequest:
    """What a client asks, and the form in which it wants the answer.

    Attributes:
        message: the last message; empty if there are decisions.
        details: what belongs to it. Its `earlier` is None if the agent keeps the conversation.
        decisions: on calls of a turn that waits; there is no other input then.
        previous: the message that the previous response answered, if the client names one.
        conversation_id: our own id of the conversation to continue, if the client names one.
        background: whether it does not wait for the answer.
        stream: whether it wants events.
        echo: the fields that a response repeats.
    """

    message: str
    details: Details
    decisions: tuple[Decision, ...]
    previous: AnyPlace | None
    conversation_id: str | None
    background: bool
    stream: bool
    echo: Mapping[str, Any]


def read_response_request(body: Fields, *, takes_tools: bool) -> ResponseRequest:
    """Return the request in a body.

    Raises:
        InvalidRequestError: if the request is invalid, or asks for what this agent cannot do.
    """
    refuse_of_responses(body)
    body.text("model")
    tools = client_tools(body, allowed=takes_tools, nested=False)
    previous, conversation_id = _previous(body), _conversation(body)
    if previous is not None and conversation_id is not None:
        raise InvalidRequestError(
            f"Mutually exclusive parameters: '{_PREVIOUS}' and '{_CONVERSATION}'.",
            _PREVIOUS,
            code="mutually_exclusive_parameters",
        )
    items = InputItems(takes_calls=bool(tools.tools))
    items.read(body)
    instructions = body.text("instructions")
    limit = body.count("max_output_tokens")
    echo = {
        "instructions": instructions,
        "max_output_tokens": limit,
        "metadata": metadata(body),
        _PREVIOUS: body.text(_PREVIOUS),
    }
    background, stream = bool(body.flag("background")), bool(body.flag("stream"))
    if background and (tools.tools or body.flag("store") is False):
        raise unsupported("background", "it cannot be used with 'tools', or with 'store': false.")
    if items.decisions:
        is_kept = body.flag("store") is not False and not items.history.has_answers
        details = Details(api="openai", earlier=None if is_kept else ())
        return ResponseRequest("", details, items.decisions, previous, conversation_id, background, stream, echo)
    sent = items.history.sent()
    is_kept = body.flag("store") is not False and not tools.tools and not sent.earlier
    if not is_kept and (previous is not None or conversation_id is not None):
        raise _not_in_conversation(_PREVIOUS if previous is not None else _CONVERSATION)
    details = Details(
        api="openai",
        content=sent.content,
        earlier=None if is_kept else sent.earlier,
        instructions="\n\n".join(filter(None, (instructions, sent.instructions))) or None,
        tools=tools.tools,
        tool_choice=tools.choice,
        max_tokens=limit,
    )
    return ResponseRequest(sent.message, details, (), previous, conversation_id, background, stream, echo)


def unknown_response(name: str) -> InvalidRequestError:
    """Return the error for a previous response that the agent does not know."""
    return InvalidRequestError(
        f"Previous response with id '{name[:100]}' not found. Responses whose history is in 'input' are not stored.",
        _PREVIOUS,
        code="previous_response_not_found",
    )


def in_progress(name: str) -> InvalidRequestError:
    """Return the error for a previous response that has not ended yet."""
    return InvalidRequestError(
        f"Previous response with id '{name[:100]}' has not ended yet.", _PREVIOUS, code="previous_response_in_progress"
    )


def not_last(name: str) -> InvalidRequestError:
    """Return the error for a previous response after which its conversation has gone on."""
    return InvalidRequestError(
        f"Previous response with id '{name[:100]}' is not the last one of its conversation, and this agent's "
        "conversations have no branches. Send the history as 'input' instead.",
        _PREVIOUS,
        code="previous_response_not_last",
    )


def unknown_conversation(name: str) -> InvalidRequestError:
    """Return the error for a conversation that the agent does not know."""
    return InvalidRequestError(
        f"Conversation with id '{name[:100]}' not found.", _CONVERSATION, code="conversation_not_found", status=404
    )


def _previous(body: Fields) -> AnyPlace | None:
    name = body.text(_PREVIOUS)
    if name is None:
        return None
    found = of_response(name)
    if found is None:
        raise unknown_response(name)
    return found


def _conversation(body: Fields) -> str | None:
    value = body.raw(_CONVERSATION)
    if value is None:
        return None
    if isinstance(value, str):
        name = value
    elif isinstance(value, dict):
        name = Fields(value, _CONVERSATION).needed_text("id")
    else:
        body.refuse_type(_CONVERSATION, "a string or an object")
    found = of_conversation(name)
    if found is None:
        raise unknown_conversation(name)
    return found


def _not_in_conversation(param: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"'{param}' continues a conversation that the agent keeps: it cannot be used with 'tools', with 'store': "
        "false, or with earlier messages in 'input'.",
        param,
        code="mutually_exclusive_parameters",
    )
