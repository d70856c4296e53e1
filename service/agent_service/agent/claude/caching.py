"""Marks for the prompt cache of the Messages API. Pure.

A mark ends a prefix (tools, system prompt, messages up to a block) that later calls read at a tenth of the price. The
API takes up to four, and looks back up to 20 blocks from each for a prefix that is cached already (Claude docs, "Prompt
caching").
"""

from collections.abc import Mapping, Sequence
from typing import Any

CACHED_CHARACTERS = 4096
"""No model caches less than 1,024 tokens, at about four characters each. Below the model's own minimum a mark is
ignored. Above it, all calls within five minutes but the first pay a tenth for the prompt."""

_MARK = {"type": "ephemeral"}

# The last message is the longest prefix of this call. The one of the call before it was marked then: with a mark there
# too, it is found even if more than 20 blocks came since.
_MARKED_MESSAGES = 2


def marked_system(text: str) -> str | list[dict[str, Any]]:
    """Return a system prompt, with a mark if it is long enough."""
    return text if len(text) < CACHED_CHARACTERS else [{"type": "text", "text": text, "cache_control": _MARK}]


def marked(question: Mapping[str, Any]) -> dict[str, Any]:
    """Return a question with tools, with marks at the end of its tools and system prompt, and of its messages."""
    found = dict(question)
    system = found.get("system")
    if isinstance(system, str):
        found["system"] = [{"type": "text", "text": system, "cache_control": _MARK}]
    elif system is None:
        *others, last = found["tools"]
        found["tools"] = [*others, {**last, "cache_control": _MARK}]
    found["messages"] = _marked_messages(found["messages"])
    return found


def _marked_messages(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    found = list(messages)
    of_user = [number for number, message in enumerate(found) if message["role"] == "user"]
    for number in of_user[-_MARKED_MESSAGES:]:
        content = found[number]["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if blocks:
            found[number] = {**found[number], "content": [*blocks[:-1], {**blocks[-1], "cache_control": _MARK}]}
    return found
