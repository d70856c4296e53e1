"""The messages that a client sends: its whole conversation, in the form that goes to the model. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent_service.agent.messages import is_blank
from agent_service.compat.anthropic.content import Block, Role, blocks
from agent_service.compat.anthropic.invalid import invalid, required_list, required_object, required_text, shown
from agent_service.compat.pausing import Paused, paused_in, says_go_on, without_notice

Message = Mapping[str, Any]

_NO_PREFILL = (
    "the last message must be one of the user. This agent does not continue a text of its own (prefill), and only an "
    "answer that paused for an approval may come last."
)


@dataclass(slots=True)
class History:
    """A conversation. No two messages of the same role follow each other, and the first one is of the user.

    `paused` is the answer at the end that waits for approvals, if there is one. `system` are instructions among the
    messages. `loaded` are tools that became available in the course of the conversation, by name, with their definition
    if it came with them; `removed` those that are no longer.
    """

    messages: list[Message] = field(default_factory=list)
    paused: Paused | None = None
    system: list[str] = field(default_factory=list)
    loaded: dict[str, Mapping[str, Any] | None] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)


def read_history(value: object) -> History:
    """Return the conversation in the field `messages` of a request.

    Raises:
        HTTPException: when the model API would not take it, or this agent does not.
    """
    given = required_list(value, "messages")
    if not given:
        raise invalid("messages", "at least one message is required.")
    history = History()
    for number, each in enumerate(given):
        _add(history, required_object(each, f"messages.{number}"), f"messages.{number}")
    spoken = [each for each in given if each["role"] != "system"]
    if not spoken or spoken[0]["role"] != "user":
        raise invalid("messages", "the first message must be one of the user.")
    if spoken[-1]["role"] == "assistant":
        history.paused = paused_in(_last_text(spoken[-1]["content"]))
        if history.paused is None:
            raise invalid(f"messages.{len(given) - 1}", _NO_PREFILL)
    elif len(spoken) > 1 and spoken[-2]["role"] == "assistant" and says_go_on(_last_text(spoken[-1]["content"])):
        history.paused = paused_in(_last_text(spoken[-2]["content"]))
    _check_calls(history.messages)
    return history


def _add(history: History, message: Message, where: str) -> None:
    role = message.get("role")
    content = message.get("content")
    if role == "system":
        _add_system(history, [] if content is None else content, f"{where}.content")
        return
    if role not in {"user", "assistant"}:
        raise invalid(f"{where}.role", "must be 'user', 'assistant' or 'system'.")
    of: Role = "user" if role == "user" else "assistant"
    found = blocks(content, of, f"{where}.content")
    if of == "assistant":
        found = _without_notice(found)
    else:
        _note_references(history, content)
        if not found:
            raise invalid(f"{where}.content", "must contain more than white space.")
    if history.messages and history.messages[-1]["role"] == of:
        found = [*history.messages.pop()["content"], *found]
    if found:
        found.sort(key=lambda block: block["type"] != "tool_result")
        history.messages.append({"role": of, "content": found})


def _last_text(content: object) -> str:
    """Return the text at the end of a content; empty if there is none. Programs add texts before the user's own."""
    last = content[-1] if isinstance(content, list) and content else content
    text = last.get("text") if isinstance(last, dict) and last.get("type") == "text" else last
    return text if isinstance(text, str) else ""


def _without_notice(found: Sequence[Block]) -> list[Block]:
    """Return the blocks of an answer without the sentence on approvals, which is not for the model."""
    kept = [{**block, "text": without_notice(block["text"])} if block["type"] == "text" else block for block in found]
    return [block for block in kept if block["type"] != "text" or not is_blank(block["text"])]


def _add_system(history: History, content: object, where: str) -> None:
    """Take a message of the role `system`: instructions, and changes of the tools."""
    if isinstance(content, str):
        history.system.append(content)
        return
    for number, value in enumerate(required_list(content, where)):
        place = f"{where}.{number}"
        block = required_object(value, place)
        kind = block.get("type")
        if kind == "text":
            history.system.append(required_text(block.get("text"), f"{place}.text"))
        elif kind in {"tool_addition", "tool_removal"}:
            _change_tools(history, block, place)
        else:
            raise invalid(f"{place}.type", f"'{shown(kind)}' is not supported in a message of the system.")


def _change_tools(history: History, block: Block, where: str) -> None:
    tool = required_object(block.get("tool"), f"{where}.tool")
    kind = tool.get("type")
    if kind == "tool_definition" and block["type"] == "tool_addition":
        definition = required_object(tool.get("definition"), f"{where}.tool.definition")
        name = required_text(definition.get("name"), f"{where}.tool.definition.name")
        history.loaded[name] = definition
    elif kind == "tool_reference":
        name = required_text(tool.get("name"), f"{where}.tool.name")
        if block["type"] == "tool_removal":
            history.loaded.pop(name, None)
            history.removed.add(name)
            return
        history.loaded.setdefault(name, None)
    else:
        raise invalid(f"{where}.tool.type", f"'{shown(kind)}' is not supported.")
    history.removed.discard(name)


def _note_references(history: History, content: object) -> None:
    """Note the tools that a result of the client's own tool search names."""
    for block in content if isinstance(content, list) else ():
        parts = block.get("content") if block["type"] == "tool_result" else None
        for part in parts if isinstance(parts, list) else ():
            if part["type"] == "tool_reference":
                history.loaded.setdefault(part["tool_name"], None)


def _check_calls(messages: Sequence[Message]) -> None:
    """Check that each call has its result in the next message, and only there, as the model API requires."""
    waiting: set[str] = set()
    seen: set[str] = set()
    for message in messages:
        answered = set(_ids(message, "tool_result", "tool_use_id"))
        if answered - waiting:
            raise invalid("messages", f"there is no call before the result '{shown(min(answered - waiting))}'.")
        if waiting - answered:
            raise invalid("messages", f"the call '{shown(min(waiting - answered))}' has no result in the next message.")
        calls = [*_ids(message, "tool_use", "id")]
        waiting = set(calls)
        if len(waiting) < len(calls) or waiting & seen:
            raise invalid("messages", "the ids of the calls must be unique.")
        seen |= waiting
    if waiting:
        raise invalid("messages", f"the call '{shown(min(waiting))}' has no result.")


def _ids(message: Message, kind: str, name: str) -> Iterator[str]:
    return (block[name] for block in message["content"] if block["type"] == kind)


def has_calls(messages: Sequence[Message]) -> bool:
    """Return whether a conversation has calls of tools."""
    return any(True for message in messages for _ in _ids(message, "tool_use", "id"))


def instructions(system: object, more: Sequence[str]) -> str | None:
    """Return the instructions of a request: its field `system`, and those among its messages; None if there are none.

    Raises:
        HTTPException: when the field is neither a text nor a list of texts.
    """
    texts = []
    if isinstance(system, str):
        texts.append(system)
    elif system is not None:
        for number, value in enumerate(required_list(system, "system")):
            block = required_object(value, f"system.{number}")
            if block.get("type") != "text":
                raise invalid(f"system.{number}.type", "must be 'text'.")
            texts.append(required_text(block.get("text"), f"system.{number}.text"))
    return "\n\n".join(text for text in [*texts, *more] if not is_blank(text)) or None
