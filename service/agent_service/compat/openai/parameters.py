"""The parameters that this agent refuses, because an answer that ignored them would not be what the client asked for.

All others that are not read are ignored, as are unknown ones: the sampling (`temperature`, `top_p`, `seed`, …), and
what only concerns OpenAI's own service (`user`, `service_tier`, `prompt_cache_key`, …). The table is in
`docs/how-to/clients/openai.md`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from agent_service.compat.openai.errors import unsupported
from agent_service.compat.openai.fields import Fields

_ONE_ANSWER = "this agent answers once."
_NO_LOGPROBS = "this agent has no log probabilities."
_TEXT_ONLY = "this agent answers in text."
_NO_FORMAT = "this agent answers in plain text; a format cannot be guaranteed."
_NO_STOP = "this agent's answers cannot be ended by a text."
_USE_TOOLS = "it is deprecated, use 'tools'."
_OWN_TOOLS = "the agent's own definition has its tools."

_Check = tuple[str, Callable[[Any], bool], str]


def _is_set(value: Any) -> bool:
    return value not in (None, False, 0, "", [], {})


def _is_many(value: Any) -> bool:
    return value is not None and value != 1


def _is_format(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type", "text") != "text"


def _has_format(value: Any) -> bool:
    return isinstance(value, dict) and _is_format(value.get("format"))


def _is_more_than_text(value: Any) -> bool:
    return _is_set(value) and value != ["text"]


def _has_logprobs(value: Any) -> bool:
    return isinstance(value, list) and "message.output_text.logprobs" in value


_OF_CHAT: tuple[_Check, ...] = (
    ("n", _is_many, _ONE_ANSWER),
    ("logprobs", _is_set, _NO_LOGPROBS),
    ("top_logprobs", _is_set, _NO_LOGPROBS),
    ("response_format", _is_format, _NO_FORMAT),
    ("modalities", _is_more_than_text, _TEXT_ONLY),
    ("audio", _is_set, _TEXT_ONLY),
    ("stop", _is_set, _NO_STOP),
    ("functions", _is_set, _USE_TOOLS),
    ("function_call", _is_set, _USE_TOOLS),
    ("web_search_options", lambda value: value is not None, _OWN_TOOLS),
)

_OF_RESPONSES: tuple[_Check, ...] = (
    ("top_logprobs", _is_set, _NO_LOGPROBS),
    ("include", _has_logprobs, _NO_LOGPROBS),
    ("text", _has_format, _NO_FORMAT),
    ("max_tool_calls", _is_set, _OWN_TOOLS),
    ("prompt", _is_set, "this agent has no stored prompts."),
)


def refuse_of_chat(body: Fields) -> None:
    """Refuse a chat completion with a parameter that this agent cannot honour.

    Raises:
        InvalidRequestError: if there is one.
    """
    _refuse(body, _OF_CHAT)


def refuse_of_responses(body: Fields) -> None:
    """Refuse a request for a response, as `refuse_of_chat` does."""
    _refuse(body, _OF_RESPONSES)


def metadata(body: Fields) -> Mapping[str, Any]:
    """Return the metadata of a request, which its answer repeats."""
    found = body.object("metadata")
    names = body.raw("metadata") if found is not None else {}
    return {name: value for name in names if (value := Fields(names, "metadata").text(name)) is not None}


def _refuse(body: Fields, checks: tuple[_Check, ...]) -> None:
    for name, applies, reason in checks:
        if applies(body.raw(name)):
            raise unsupported(name, reason)
