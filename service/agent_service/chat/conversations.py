"""Conversations: what was said before, bounded in length and in lifetime.

A conversation is a list to which whole exchanges are added in one step, so that two requests of one conversation at the
same time leave two whole exchanges, in the order in which they ended; neither sees the other's.
"""

import json
import re
import uuid

from agent_service.agent.messages import Exchange, is_blank, sendable
from agent_service.state.redis import Redis, Script

_APPEND = Script(__package__, "append_exchange")

# The form of the ids that we give out; no other can be known.
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Conversations:
    """The conversations of all clients; each belongs to one owner, and no other can read it or add to it."""

    def __init__(self, redis: Redis, *, max_messages: int, max_tokens: int, ttl_seconds: int) -> None:
        self._redis = redis
        self._max_exchanges = max_messages // 2
        self._max_tokens = max_tokens
        self._ttl_seconds = ttl_seconds

    async def history(self, owner: str, conversation_id: str) -> tuple[Exchange, ...]:
        """Give what is remembered of a conversation, oldest first; nothing when it is not known.

        What the model API would refuse is left out: earlier versions remembered empty answers, too.

        Raises:
            StateUnavailableError: when it cannot be looked up.
        """
        if self._max_exchanges == 0 or not _ID.fullmatch(conversation_id):
            return ()
        elements = await self._redis.call("LRANGE", self._key(owner, conversation_id), 0, -1)
        return tuple(exchange for exchange in map(_exchange, elements) if exchange is not None)

    async def append(self, owner: str, conversation_id: str, exchange: Exchange, *, tokens: int) -> None:
        """Add an exchange of about so many tokens, and let go of the oldest ones that are too many.

        An exchange without text on either side is not added.

        Raises:
            StateUnavailableError: when that is not certain to have happened.
        """
        if self._max_exchanges == 0 or not _can_be_sent(exchange):
            return
        element = f"{tokens} {json.dumps([exchange.user, exchange.assistant], separators=(',', ':'))}"
        key = self._key(owner, conversation_id)
        await self._redis.run(_APPEND, [key], element, self._max_exchanges, self._max_tokens, self._ttl_seconds)

    def _key(self, owner: str, conversation_id: str) -> str:
        return self._redis.key("conversation", owner, conversation_id)


def _exchange(element: bytes) -> Exchange | None:
    """Return what an element holds, as it can be sent; None when it cannot be read or sent."""
    try:
        texts = json.loads(element.partition(b" ")[2])
        if not isinstance(texts, list):
            return None
        user, assistant = texts
        exchange = Exchange(sendable(user), sendable(assistant))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    return exchange if _can_be_sent(exchange) else None


def _can_be_sent(exchange: Exchange) -> bool:
    return not (is_blank(exchange.user) or is_blank(exchange.assistant))


def new_id() -> str:
    """Give an id that nobody can guess."""
    return str(uuid.uuid4())
