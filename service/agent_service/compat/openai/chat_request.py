"""A request for a chat completion, as a question. Pure.

Source: OpenAI API reference, "Create chat completion".
"""

from collections.abc import Sequence
from dataclasses import dataclass

from agent_service.agent.details import Details
from agent_service.compat.openai.content import texts, user_blocks
from agent_service.compat.openai.errors import InvalidRequestError, unsupported
from agent_service.compat.openai.fields import Fields
from agent_service.compat.openai.history import History
from agent_service.compat.openai.parameters import refuse_of_chat
from agent_service.compat.openai.tools import NOT_TAKEN, call_block, client_tools
from agent_service.compat.pausing import Paused, paused_in, says_go_on, without_notice

_MESSAGES = "messages"
_ROLES = "'system', 'developer', 'user', 'assistant', 'tool'"


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a client asks, and the form in which it wants the answer.

    With `paused`, it goes on with a turn that waited, and asks nothing else.
    """

    message: str
    details: Details
    stream: bool
    include_usage: bool
    paused: Paused | None = None


def read_chat_request(body: Fields, *, takes_tools: bool) -> ChatRequest:
    """Return the request in a body. The agent keeps no history of it: the client does.

    Raises:
        InvalidRequestError: if the request is invalid, or asks for what this agent cannot do.
    """
    refuse_of_chat(body)
    body.text("model")
    tools = client_tools(body, allowed=takes_tools, nested=True)
    history = History(_MESSAGES)
    messages = body.objects(_MESSAGES)
    if not messages:
        raise InvalidRequestError(
            "Missing required parameter: 'messages', with at least one message.",
            _MESSAGES,
            code="missing_required_parameter",
        )
    for message in messages:
        _add(history, message, takes_calls=bool(tools.tools))
    sent = history.sent()
    options = body.object("stream_options")
    limit = body.count("max_completion_tokens")
    return ChatRequest(
        message=sent.message,
        details=Details(
            api="openai",
            content=sent.content,
            earlier=sent.earlier,
            instructions=sent.instructions,
            tools=tools.tools,
            tool_choice=tools.choice,
            max_tokens=body.count("max_tokens") if limit is None else limit,
        ),
        stream=bool(body.flag("stream")),
        include_usage=options is not None and bool(options.flag("include_usage")),
        paused=_paused(messages),
    )


def _paused(messages: Sequence[Fields]) -> Paused | None:
    if [message.raw("role") for message in messages[-2:]] != ["assistant", "user"]:
        return None
    answer, message = messages[-2:]
    said = [block.get("text", "") for block in user_blocks(message)]
    return paused_in(texts(answer)) if len(said) == 1 and says_go_on(said[0]) else None


def _add(history: History, message: Fields, *, takes_calls: bool) -> None:
    role = message.needed_text("role")
    if role in {"system", "developer"}:
        history.instruct(texts(message))
    elif role == "user":
        history.add_user(user_blocks(message), message.path)
    elif role == "assistant":
        if message.raw("function_call") is not None:
            raise unsupported(message.at("function_call"), "it is deprecated, use 'tool_calls'.")
        calls = message.objects("tool_calls") or []
        if calls and not takes_calls:
            raise unsupported(message.at("tool_calls"), f"the request has no 'tools'; {NOT_TAKEN}")
        blocks = [call_block(call.needed_text("id"), call.needed_object("function")) for call in calls]
        history.add_assistant(without_notice(texts(message)), blocks, message.path)
    elif role == "tool":
        history.add_result(message.needed_text("tool_call_id"), user_blocks(message), message.path)
    else:
        message.refuse_value("role", _ROLES)
