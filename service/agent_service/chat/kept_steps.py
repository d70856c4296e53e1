"""The tool calls of an exchange as a conversation keeps them: bounded, and in a form that can be sent again. Pure."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Message = Mapping[str, Any]

# Redis holds a conversation as a whole, and each turn reads it.
MOST_CHARACTERS = 2**18
EXCERPT_CHARACTERS = 2000

_USE, _RESULT = "tool_use", "tool_result"


def kept(messages: Sequence[Message], most_characters: int) -> tuple[tuple[Message, ...], int]:
    """Return the messages of an exchange with tool calls that are kept, and their length in characters.

    Where they exceed a bound, the results of the tools are cut to excerpts. Where that is not enough, none are kept,
    only the texts of the exchange.

    Args:
        messages: the messages after the user's.
        most_characters: the bound that the conversation sets.
    """
    for each in (tuple(messages), tuple(map(_shortened, messages))):
        size = len(json.dumps(each, ensure_ascii=False))
        if size <= min(most_characters, MOST_CHARACTERS):
            return each, size
    return (), 0


def stored(messages: object) -> tuple[Message, ...]:
    """Return stored messages; none if the model API would refuse them.

    Raises:
        TypeError: when they are no list at all.
    """
    if not isinstance(messages, list):
        raise TypeError("is not a list of messages")
    try:
        return tuple(messages) if can_be_sent(messages) else ()
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ()


def can_be_sent(messages: Sequence[Message]) -> bool:
    """Return whether each tool call has its result in the next message, and only there."""
    if not messages or messages[0]["role"] != "assistant":
        return False
    waiting: set[str] = set()
    for message in messages:
        is_user = message["role"] == "user"
        blocks = message["content"]
        if not isinstance(blocks, list) or not blocks or message["role"] not in {"user", "assistant"}:
            return False
        if (set(_ids(blocks, _RESULT, "tool_use_id")) if is_user else set()) != waiting:
            return False
        waiting = set() if is_user else set(_ids(blocks, _USE, "id"))
    # Half a surrogate pair in an escape cannot be encoded.
    json.dumps(messages, ensure_ascii=False).encode()
    return not waiting


def _ids(blocks: Sequence[Mapping[str, Any]], kind: str, name: str) -> Iterator[str]:
    return (block[name] for block in blocks if block["type"] == kind)


def _shortened(message: Message) -> Message:
    blocks = [
        {**block, "content": [_excerpt(part) for part in block["content"]]} if block["type"] == _RESULT else block
        for block in message["content"]
    ]
    return {**message, "content": blocks}


def _excerpt(part: Mapping[str, Any]) -> Mapping[str, Any]:
    if part.get("type") != "text":
        return {"type": "text", "text": f"[{part.get('type')}: no longer kept]"}
    text = str(part["text"])
    return part if len(text) <= EXCERPT_CHARACTERS else {**part, "text": f"{text[:EXCERPT_CHARACTERS]} [shortened]"}
