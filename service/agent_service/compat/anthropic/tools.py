"""The tools that a client sends: checked, and in the form that goes to the model. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent_service.compat.anthropic.history import History
from agent_service.compat.anthropic.invalid import invalid, required_list, required_object, required_text, shown

Definition = Mapping[str, Any]

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_MOST_TOOLS = 1000

# Tools that the client runs, whose schema the model API has (Claude docs, "Tool reference").
_KNOWN_TO_THE_MODEL = ("bash_", "text_editor_", "memory_")
_CHOICES = frozenset({"auto", "any", "tool", "none"})

NOT_ALLOWED = (
    "this agent has its own tools and does not pass on those of its clients: leave them out. "
    "Its owner can allow them (API_CLIENT_TOOLS)."
)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a client may send: tools of its own, and the types of the agent's tools that the model API runs itself."""

    client_tools: bool
    server_tools: frozenset[str]


def read_tools(value: object, history: History, allowed: Allowed) -> tuple[Definition, ...]:
    """Return the client's own tools that are available at the end of a conversation.

    Tools that the model API runs, and that the agent has, too, are left out: the agent offers them itself.

    Raises:
        HTTPException: for a tool that is invalid, or that this agent does not take.
    """
    given = [] if value is None else required_list(value, "tools")
    if len(given) > _MOST_TOOLS:
        raise invalid("tools", f"there are {len(given)} tools; at most {_MOST_TOOLS} are allowed.")
    inline = {name: each for name, each in history.loaded.items() if each is not None}
    found: dict[str, Definition] = {}
    for number, each in enumerate([*given, *inline.values()]):
        tool = required_object(each, f"tools.{number}")
        read = _tool(tool, f"tools.{number}", allowed)
        if read is None or _is_hidden(tool, history):
            continue
        if read["name"] in found:
            raise invalid(f"tools.{number}.name", f"another tool is also named '{read['name']}'.")
        found[read["name"]] = read
    return tuple(found.values())


def read_choice(value: object, tools: Sequence[Definition]) -> Mapping[str, Any] | None:
    """Return the client's choice among its tools; None if the model decides.

    Raises:
        HTTPException: for a choice that is invalid, or that no tool fits.
    """
    if value is None:
        return None
    choice = required_object(value, "tool_choice")
    kind = choice.get("type")
    if kind not in _CHOICES:
        raise invalid("tool_choice.type", f"must be one of {', '.join(sorted(_CHOICES))}.")
    if not tools:
        if kind in {"auto", "none"}:
            return None
        raise invalid("tool_choice", f"'{kind}' needs tools.")
    found: dict[str, Any] = {"type": kind}
    if kind == "tool":
        found["name"] = required_text(choice.get("name"), "tool_choice.name")
        if all(tool["name"] != found["name"] for tool in tools):
            raise invalid("tool_choice.name", f"there is no tool '{shown(found['name'])}' among the tools.")
    parallel = choice.get("disable_parallel_tool_use")
    if parallel is not None and not isinstance(parallel, bool):
        raise invalid("tool_choice.disable_parallel_tool_use", "must be true or false.")
    if parallel and kind != "none":
        found["disable_parallel_tool_use"] = True
    return None if found == {"type": "auto"} else found


def _tool(tool: Definition, where: str, allowed: Allowed) -> Definition | None:
    kind = tool.get("type") or "custom"
    if kind in allowed.server_tools:
        return None
    client_runs_it = kind == "custom" or str(kind).startswith(_KNOWN_TO_THE_MODEL)
    if not client_runs_it:
        raise invalid(
            f"{where}.type",
            f"this agent does not have '{shown(kind)}', a tool that the model API runs or that needs a header of its "
            "own. The agent's owner can add tools of the model API to its tools (builtin).",
        )
    if not allowed.client_tools:
        raise invalid("tools", NOT_ALLOWED)
    name = required_text(tool.get("name"), f"{where}.name")
    if not _NAME.fullmatch(name):
        raise invalid(f"{where}.name", "must be of letters, digits, '_' and '-', 128 at most.")
    return {"name": name, **(_custom(tool, where) if kind == "custom" else _known(tool))}


def _custom(tool: Definition, where: str) -> Definition:
    schema = required_object(tool.get("input_schema"), f"{where}.input_schema")
    if schema.get("type") != "object":
        raise invalid(f"{where}.input_schema.type", "must be 'object'.")
    callers = tool.get("allowed_callers")
    if callers is not None and "direct" not in required_list(callers, f"{where}.allowed_callers"):
        raise invalid(f"{where}.allowed_callers", "must include 'direct': this agent runs no code that calls tools.")
    found: dict[str, Any] = {"description": "", "input_schema": schema}
    if tool.get("description") is not None:
        found["description"] = required_text(tool["description"], f"{where}.description")
    if tool.get("input_examples"):
        found["input_examples"] = required_list(tool["input_examples"], f"{where}.input_examples")
    return {**found, "strict": True} if tool.get("strict") is True else found


# Fields of a definition that do not go to the model: marks for the cache, and how the client wants its answers.
_OUR_OWN = frozenset({"name", "cache_control", "defer_loading", "eager_input_streaming", "allowed_callers"})


def _known(tool: Definition) -> Definition:
    return {name: value for name, value in tool.items() if name not in _OUR_OWN}


def _is_hidden(tool: Definition, history: History) -> bool:
    """Return whether the model does not see a tool yet, or any more."""
    name = tool.get("name")
    return name in history.removed or (tool.get("defer_loading") is True and name not in history.loaded)
