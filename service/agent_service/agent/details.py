"""What a client may send besides the text of its message. Pure.

Contents, messages and tools are in the form of the Messages API.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

Block = Mapping[str, Any]
Message = Mapping[str, Any]

Api = Literal["native", "openai", "anthropic", "a2a", "mcp"]
"""The protocol in which a client asks."""

APIS: tuple[Api, ...] = get_args(Api)


@dataclass(frozen=True, slots=True)
class Details:
    """Further parts of a question.

    `content` are the blocks of the message, if it is more than text. `earlier` are the messages before it, from a
    client that keeps the history itself; they begin with one of the user. None: the agent keeps the history.
    `instructions` are appended to the system prompt. `tools` are tools that the client runs itself, and `tool_choice`
    is its choice among them. `max_tokens` limits the answer, below the agent's own limit.
    """

    api: Api = "native"
    content: tuple[Block, ...] = ()
    earlier: tuple[Message, ...] | None = None
    instructions: str | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: Mapping[str, Any] | None = None
    max_tokens: int | None = None


NO_DETAILS = Details()


def text_of(message: Message) -> str:
    """Return the text of a message; other content is named by its type, such as `[image]`."""
    content = message["content"]
    if isinstance(content, str):
        return content
    parts = (block["text"] if block["type"] == "text" else f"[{block['type']}]" for block in content)
    return "\n".join(parts)


def written_details(details: Details) -> str:
    """Return the stored form of the details: a JSON object of those that are set; empty if none is."""
    found = {each.name: getattr(details, each.name) for each in fields(Details)}
    return json.dumps(
        {name: value for name, value in found.items() if value != getattr(NO_DETAILS, name)}, separators=(",", ":")
    )


def read_details(text: str | bytes) -> Details:
    """Return the details in their stored form. Names that this version does not know are skipped.

    Raises:
        ValueError, LookupError, TypeError: if it is not one.
    """
    found = json.loads(text)
    # Half a surrogate pair in an escape cannot be sent. This raises UnicodeEncodeError, a ValueError.
    json.dumps(found, ensure_ascii=False).encode()
    if not isinstance(found, dict):
        raise TypeError("is no object")
    tuples = {name: tuple(found[name]) for name in ("content", "earlier", "tools") if found.get(name) is not None}
    if not all(isinstance(each, dict) for value in tuples.values() for each in value):
        raise TypeError("has parts that are no objects")
    known = {each.name for each in fields(Details)}
    details = Details(**{**{name: value for name, value in found.items() if name in known}, **tuples})
    if details.api not in APIS:
        raise ValueError("has an unknown protocol")
    return details
