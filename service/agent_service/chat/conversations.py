"""Conversations: their earlier exchanges, bounded in length and in lifetime.

A conversation is a list to which complete exchanges are added atomically. Two concurrent requests in one conversation
therefore leave two complete exchanges, in the order in which they ended; neither request sees the other's exchange.
"""

import json
import math
import re
import uuid
from dataclasses import dataclass

from agent_service.agent.messages import CHARACTERS_PER_TOKEN, Exchange, is_blank, sendable
from agent_service.chat.kept_steps import kept, stored
from agent_service.state.redis import Redis
from agent_service.state.script import Script

_APPEND = Script(__package__, "exchange", "append_exchange")

# The share of a conversation's bound that the tool calls of one exchange may take: more would leave no room for others.
_SHARE_OF_STEPS = 0.5

# The format of the ids that the service issues; any other id is unknown.
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Addition:
    """The key of a conversation, and the arguments of `append_exchange` in the scripts."""

    key: str
    arguments: tuple[str | int, ...]


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
        """Add an exchange, and remove the oldest ones that exceed the bounds.

        Its texts have about `tokens` tokens; those of its tool calls are added, which are shortened if they are long.
        An exchange is not added if its message or its answer has no text.

        Raises:
            StateUnavailableError: when the exchange may not have been stored.
        """
        addition = self.addition(owner, conversation_id, exchange, tokens=tokens)
        if addition is not None:
            await self._redis.run(_APPEND, [addition.key], *addition.arguments)

    def addition(self, owner: str, conversation_id: str, exchange: Exchange, *, tokens: int) -> Addition | None:
        """Return what the scripts need to add an exchange, as `append` does; None if it is not added."""
        if self._max_exchanges == 0 or not _can_be_sent(exchange):
            return None
        parts: list[object] = [exchange.user, exchange.assistant]
        if exchange.steps:
            steps, characters = kept(exchange.steps, int(_SHARE_OF_STEPS * self._max_tokens * CHARACTERS_PER_TOKEN))
            # The steps include the text of the answer.
            tokens += math.ceil(max(0, characters - len(exchange.assistant)) / CHARACTERS_PER_TOKEN)
            parts += [steps] if steps else []
        element = f"{tokens} {json.dumps(parts, separators=(',', ':'))}"
        bounds = self._max_exchanges, self._max_tokens, self._ttl_seconds
        return Addition(self._key(owner, conversation_id), (element, *bounds))

    def _key(self, owner: str, conversation_id: str) -> str:
        return self._redis.key("conversation", owner, conversation_id)


def _exchange(element: bytes) -> Exchange | None:
    """Return the exchange in an element, in a form that can be sent; None if it cannot be read or sent."""
    try:
        exchange = read_exchange(json.loads(element.partition(b" ")[2]))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    return exchange if _can_be_sent(exchange) else None


def written_exchange(exchange: Exchange) -> list[object]:
    """Return the stored form of an exchange."""
    return [exchange.user, exchange.assistant, *([exchange.steps] if exchange.steps else [])]


def read_exchange(value: object) -> Exchange:
    """Return an exchange from its stored form, in a form that can be sent.

    Raises:
        ValueError, TypeError, AttributeError: if it is another value.
    """
    if not isinstance(value, list):
        raise TypeError("is no list")
    user, assistant, *more = value
    return Exchange(sendable(user), sendable(assistant), stored(more[0]) if more else ())


def _can_be_sent(exchange: Exchange) -> bool:
    return not (is_blank(exchange.user) or is_blank(exchange.assistant))


def new_id() -> str:
    """Return an id that cannot be guessed."""
    return str(uuid.uuid4())
