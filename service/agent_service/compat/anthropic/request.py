"""The body of `POST /v1/messages`: what of it becomes a question, what is ignored, and what is refused. Pure.

A field is ignored where the answer is a true answer without it, and refused where it would not be.
docs/how-to/clients/anthropic.md has the fields for users.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from agent_service.agent.details import Block, Details, text_of
from agent_service.compat.anthropic.history import has_calls, instructions, read_history
from agent_service.compat.anthropic.invalid import invalid, required_object, required_text, shown
from agent_service.compat.anthropic.tools import NOT_ALLOWED, Allowed, read_choice, read_tools
from agent_service.compat.pausing import Paused

Body = Mapping[str, Any]

# The agent's owner chooses how the model answers and where it runs.
_IGNORED = frozenset(
    {
        "cache_control",
        "compaction",
        "context_management",
        "diagnostics",
        "fallbacks",
        "metadata",
        "service_tier",
        "speed",
        "temperature",
        "thinking",
        "top_k",
        "top_p",
        "user_profile_id",
        "workspace_id",
    }
)
_USED = frozenset({"max_tokens", "messages", "model", "output_config", "stream", "system", "tool_choice", "tools"})
# Fields that would change what the answer is.
_REFUSED = {
    "container": "this agent runs no containers for its clients.",
    "inference_geo": "the agent's owner chooses where its model runs.",
    "mcp_servers": "this agent calls the tools of its own servers only.",
    "output_format": "this agent answers with text in no given format.",
    "stop_sequences": "this agent does not stop at sequences of its clients.",
}

_KNOWN = _USED | _IGNORED | _REFUSED.keys() | {"thread"}

# An escaped NUL, which the model API refuses: after an even number of backslashes. Files that a client reads have them.
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")


class ThreadError(Exception):
    """The API should keep the conversation, which this agent leaves to its clients of this API.

    The tool runner of the official SDK sends the conversation then, if it finds our `code` in the error.
    """

    code = "thread_unsupported_request"

    def __init__(self) -> None:
        super().__init__("thread: this agent keeps no threads: send the whole conversation, without this field.")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: the text of the last message, all that belongs to it, and how it is answered.

    `paused` is the turn to go on with, if the client sent back an answer that waited.
    """

    message: str
    details: Details
    streamed: bool = False
    paused: Paused | None = None


def read_request(content: bytes, allowed: Allowed, *, counts: bool = False) -> Asked:
    """Return what the body of a request asks.

    Args:
        content: the body.
        allowed: what the client may send.
        counts: whether only tokens are counted, which needs no `max_tokens`.

    Raises:
        HTTPException: when it is invalid, or has what this agent does not take.
        ThreadError: when it is part of a thread.
    """
    body = _loaded(content)
    if body.get("thread") is not None:
        raise ThreadError
    _check_fields(body)
    if not required_text(body.get("model"), "model"):
        raise invalid("model", "must not be empty.")
    history = read_history(body.get("messages"))
    tools = read_tools(body.get("tools"), history, allowed)
    if not tools and has_calls(history.messages):
        raise invalid("tools", NOT_ALLOWED if not allowed.client_tools else "messages with calls need the tools.")
    *earlier, last = history.messages
    details = Details(
        api="anthropic",
        content=() if _is_text(last["content"]) else tuple(last["content"]),
        earlier=tuple(earlier),
        instructions=instructions(body.get("system"), history.system),
        tools=tools,
        tool_choice=read_choice(body.get("tool_choice"), tools),
        max_tokens=None if counts else _max_tokens(body),
    )
    _check_depth(details)
    return Asked(text_of(last), details, streamed=_flag(body, "stream"), paused=history.paused)


def _is_text(content: Sequence[Block]) -> bool:
    return len(content) == 1 and content[0]["type"] == "text"


def _loaded(content: bytes) -> Body:
    try:
        found = orjson.loads(_NUL.sub(rb"\1\\ufffd", content) if rb"\u0000" in content else content)
    except orjson.JSONDecodeError:
        raise invalid("", "The body is not JSON in UTF-8.") from None
    return required_object(found, "body")


def _check_fields(body: Body) -> None:
    for name, value in body.items():
        if name in _REFUSED and value:
            raise invalid(name, f"{_REFUSED[name]} Leave it out.")
        if name not in _KNOWN:
            raise invalid(shown(name), "Extra inputs are not permitted.")
    config = body.get("output_config")
    if config is not None and required_object(config, "output_config").get("format"):
        raise invalid("output_config.format", f"{_REFUSED['output_format']} Leave it out.")


def _max_tokens(body: Body) -> int:
    value = body.get("max_tokens")
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise invalid("max_tokens", "must be an integer of 1 or more.")
    return value


def _flag(body: Body, name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise invalid(name, "must be true or false.")
    return bool(value)


def _check_depth(details: Details) -> None:
    """Check that the input of calls and the schemas of tools can be sent, which may be nested in any depth."""
    try:
        orjson.dumps([details.earlier, details.content, details.tools])
    except TypeError:
        raise invalid("", "The body is nested too deeply.") from None
