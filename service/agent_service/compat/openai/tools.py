"""The tools of a client, in the form of the Messages API. Pure."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent_service.compat.openai.errors import InvalidRequestError, unsupported
from agent_service.compat.openai.fields import Fields

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_CHOICES: Mapping[str, str] = {"auto": "auto", "none": "none", "required": "any"}

NOT_TAKEN = (
    "this agent has tools of its own, and takes none from its clients. Its owner can allow it (API_CLIENT_TOOLS)."
)
_ONLY_FUNCTIONS = "of a client's tools, this agent takes only those of type 'function'."


@dataclass(frozen=True, slots=True)
class ClientTools:
    """The tools of a client, and its choice among them."""

    tools: tuple[Mapping[str, Any], ...] = ()
    choice: Mapping[str, Any] | None = None


def client_tools(body: Fields, *, allowed: bool, nested: bool) -> ClientTools:
    """Return the tools that a request has.

    Args:
        body: the request.
        allowed: whether the agent takes the tools of clients.
        nested: whether a definition has its name in the field `function`, as in chat completions.

    Raises:
        InvalidRequestError: if there are some, and none are allowed, or one is invalid.
    """
    definitions = body.objects("tools")
    if not definitions:
        return ClientTools()
    if not allowed:
        raise unsupported("tools", NOT_TAKEN)
    tools = tuple(_definition(each, nested=nested) for each in definitions)
    choice = _choice(body, nested=nested)
    if body.flag("parallel_tool_calls") is False and (choice is None or choice["type"] != "none"):
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    return ClientTools(tools, choice)


def call_block(call_id: str, function: Fields) -> Mapping[str, Any]:
    """Return the block of an earlier call; `function` has its name and its arguments, which are JSON as text.

    Raises:
        InvalidRequestError: if it is invalid.
    """
    name, text = _name(function), function.needed_text("arguments")
    try:
        arguments = json.loads(text) if text.strip() else {}
        # Half a surrogate pair in an escape cannot be sent.
        json.dumps(arguments, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        path = function.at("arguments")
        raise InvalidRequestError(f"Invalid '{path}': expected a JSON object as text.", path, code="invalid_value")
    return {"type": "tool_use", "id": call_id, "name": name, "input": arguments}


def _definition(tool: Fields, *, nested: bool) -> Mapping[str, Any]:
    if tool.needed_text("type") != "function":
        raise unsupported(tool.at("type"), _ONLY_FUNCTIONS)
    function = tool.needed_object("function") if nested else tool
    parameters = function.object("parameters")
    schema = function.raw("parameters") if parameters is not None else {"type": "object", "properties": {}}
    found = {"name": _name(function), "input_schema": {"type": "object", **schema}}
    description = function.text("description")
    return found if description is None else {**found, "description": description}


def _name(function: Fields) -> str:
    name = function.needed_text("name")
    if not _NAME.fullmatch(name):
        path = function.at("name")
        raise InvalidRequestError(
            f"Invalid '{path}': expected 1 to 64 letters, digits, hyphens or underscores.", path, code="invalid_value"
        )
    return name


def _choice(body: Fields, *, nested: bool) -> Mapping[str, Any] | None:
    value = body.raw("tool_choice")
    if value is None:
        return None
    if isinstance(value, str):
        if value not in _CHOICES:
            body.refuse_value("tool_choice", "'none', 'auto', 'required', or a function")
        return {"type": _CHOICES[value]}
    choice = body.needed_object("tool_choice")
    if choice.needed_text("type") != "function":
        raise unsupported(choice.at("type"), "supported are 'none', 'auto', 'required', or a function.")
    return {"type": "tool", "name": _name(choice.needed_object("function") if nested else choice)}
