"""Conversations: their earlier exchanges, bounded in length and in lifetime.

A conversation is a list to which complete exchanges are added atomically. Two concurrent requests in one conversation
therefore leave two complete exchanges, in the order in which they ended; neither request sees the other's exchange.
"""

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from agent_service.agent.messages import Exchange, is_blank, sendable
from agent_service.agent.tools import Transcript
from agent_service.state.redis import Redis
from agent_service.state.script import Script

_APPEND = Script(__package__, "append_exchange")

# Of the messages of one exchange with tool calls. Redis holds a conversation as a whole, and each turn reads it.
_MOST_CHARACTERS = 2**18
_EXCERPT_CHARACTERS = 2000
_RESULT = "tool_result"

# The format of the ids that the service issues; any other id is unknown.
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Conversations:
    """The conversations of all clients. Each belongs to one owner; no other client can read or extend it."""

    def __init__(self, redis: Redis, *, max_messages: int, max_tokens: int, ttl_seconds: int) -> None:
        self._redis = redis
        self._max_exchanges = max_messages // 2
        self._max_tokens = max_tokens
        self._ttl_seconds = ttl_seconds

    async def history(self, owner: str, conversation_id: str) -> tuple[Exchange, ...]:
        """Return the stored exchanges of a conversation, oldest first; an empty tuple if it is unknown.

        Exchanges that the model API would refuse are omitted: earlier versions stored empty answers, too.

        Raises:
            StateUnavailableError: when the conversation cannot be read.
        """
        if self._max_exchanges == 0 or not _ID.fullmatch(conversation_id):
            return ()
        elements = await self._redis.call("LRANGE", self._key(owner, conversation_id), 0, -1)
        return tuple(exchange for exchange in map(_exchange, elements) if exchange is not None)

    async def append(self, owner: str, conversation_id: str, exchange: Exchange, *, tokens: int) -> None:
        """Add an exchange of about `tokens` tokens, and remove the oldest ones that exceed the bounds.

        An exchange is not added if its message or its answer has no text.

        Raises:
            StateUnavailableError: when the exchange may not have been stored.
        """
        if self._max_exchanges == 0 or not _can_be_sent(exchange):
            return
        parts = [exchange.user, exchange.assistant, *([exchange.steps] if exchange.steps else [])]
        element = f"{tokens} {json.dumps(parts, separators=(',', ':'))}"
        key = self._key(owner, conversation_id)
        await self._redis.run(_APPEND, [key], element, self._max_exchanges, self._max_tokens, self._ttl_seconds)

    def _key(self, owner: str, conversation_id: str) -> str:
        return self._redis.key("conversation", owner, conversation_id)


def _exchange(element: bytes) -> Exchange | None:
    """Return the exchange in an element, in a form that can be sent; None if it cannot be read or sent."""
    try:
        texts = json.loads(element.partition(b" ")[2])
        if not isinstance(texts, list):
            return None
        user, assistant, *more = texts
        if more and not (len(more) == 1 and _are_steps(more[0])):
            return None
        exchange = Exchange(sendable(user), sendable(assistant), tuple(more[0]) if more else ())
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return None
    return exchange if _can_be_sent(exchange) else None


def _can_be_sent(exchange: Exchange) -> bool:
    return not (is_blank(exchange.user) or is_blank(exchange.assistant))


def kept_steps(transcript: Transcript) -> tuple[tuple[Mapping[str, Any], ...], int]:
    """Return the messages of a transcript that a conversation keeps, and their length in characters.

    Long results of tools are shortened. A transcript that is still too long is not kept: the texts of its exchange are.
    """
    messages = transcript.messages
    for each in (messages, tuple(map(_shortened, messages))):
        size = len(json.dumps(each))
        if size <= _MOST_CHARACTERS:
            return each, size if each else 0
    return (), 0


def _shortened(message: Mapping[str, Any]) -> Mapping[str, Any]:
    blocks = [
        {**block, "content": [_excerpt(part) for part in block["content"]]} if block["type"] == _RESULT else block
        for block in message["content"]
    ]
    return {**message, "content": blocks}


def _excerpt(part: Mapping[str, Any]) -> Mapping[str, Any]:
    if part.get("type") != "text":
        return {"type": "text", "text": f"[{part.get('type')}: not kept]"}
    text = str(part["text"])
    return part if len(text) <= _EXCERPT_CHARACTERS else {**part, "text": f"{text[:_EXCERPT_CHARACTERS]} [shortened]"}


def _are_steps(messages: object) -> bool:
    """Return whether messages can be sent: each tool call has its result in the next message, and nothing else has."""
    if not isinstance(messages, list):
        return False
    waiting: set[str] = set()
    for message in messages:
        blocks = message["content"]
        if message["role"] == "user" and {block["tool_use_id"] for block in blocks} != waiting:
            return False
        if message["role"] == "assistant" and waiting:
            return False
        waiting = set(_calls(blocks)) if message["role"] == "assistant" else set()
        # Half a surrogate pair in an escape cannot be sent.
        json.dumps(message, ensure_ascii=False).encode()
    return not waiting


def _calls(blocks: list[dict[str, Any]]) -> Iterator[str]:
    return (block["id"] for block in blocks if block["type"] == "tool_use")


def new_id() -> str:
    """Return an id that cannot be guessed."""
    return str(uuid.uuid4())
