"""Cancellations by `notifications/cancelled`, which may reach another process than the call.

The revision 2026-07-28 has none: there, a client cancels a call by closing its response.
"""

import asyncio
import hashlib
import json

from agent_service.chat.dialogue import Reply
from agent_service.compat.mcp.progress import Progress
from agent_service.mcp_server.calls import Calls
from agent_service.state.redis import Redis
from agent_service.state.redis_errors import StateUnavailableError

# A call of another process looks every two seconds. A cancellation may also arrive before its call.
_KEPT_SECONDS = 60


class Cancellations:
    """The calls in progress, and the cancellations for those of other processes, in Redis."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._calls: Calls[Reply] = Calls()

    async def cancel(self, session: str, request: object) -> None:
        """Cancel a call, here or in another process."""
        if self._calls.cancel(session, request):
            return
        try:
            await self._redis.call("SET", self._key(session, request), 1, "EX", _KEPT_SECONDS)
        except StateUnavailableError:
            # The call goes on, as it would for a client that cannot cancel: it may still disconnect.
            return

    async def result(self, session: str, request: object, call: asyncio.Task[Reply], progress: Progress) -> Reply:
        """Return the result of a call, and report its progress; without a session, nothing can cancel it.

        Raises:
            CallCancelledError: when the client cancelled it.
        """

        async def beat() -> None:
            if session and await self._is_cancelled(session, request):
                call.cancel()
                return
            await progress.beat()

        return await self._calls.result(session, request, call, beat)

    async def _is_cancelled(self, session: str, request: object) -> bool:
        try:
            return await self._redis.read("GET", self._key(session, request)) is not None
        except StateUnavailableError:
            return False

    def _key(self, session: str, request: object) -> str:
        # The id of a request is any string or number, 1 and "1" being two.
        digest = hashlib.sha256(json.dumps([session, request]).encode()).hexdigest()
        return self._redis.key("mcp", "cancelled", digest)
