"""The only owner of the connections to the Redis server: sharing, timeouts, and the meaning of failures."""

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
from redis.exceptions import NoScriptError, RedisError, ResponseError

from agent_service.state.link import ANSWER_SECONDS, Link, close, connect
from agent_service.state.redis_errors import ELSEWHERE, Reason, StateUnavailableError, is_wrong_type, reason_of
from agent_service.state.script import Script
from agent_service.telemetry.logs import where

_log = structlog.get_logger(__name__)

Value = str | int | float | bytes

# While the server is down, no request waits for it: one task checks at this interval whether it is back.
RECOVERY_SECONDS = 0.5

# Commands that are issued at the same time are sent as one bundle. While this many bundles are in flight, further
# commands collect in the next one: more bundles at once would only be smaller.
_MOST_BUNDLES = 4
_LARGEST_BUNDLE = 256

# A full server refuses every command of every request: this limits the log to one line per interval.
_LOG_AGAIN_SECONDS = 30.0

# How long a subscription waits before it checks whether its connection is still in use.
_SUBSCRIPTION_SECONDS = 10.0

# A user without permission for a channel gets it from an administrator, so frequent retries are useless.
_SUBSCRIBE_AGAIN_SECONDS = 10.0

# New connections may lead to the same server until DNS reflects a failover, so not every request reconnects.
_RECONNECT_SECONDS = 0.5

# The parts of the state that the agent needs permission for; one key represents all keys of its part. See
# `lua/check.lua`.
_PARTS_OF_STATE = ("task", "conversation", "approval", "limit", "budget")
_CHANNELS = ("news", "cancelled", "events")


_CHECK = Script(__package__, "check")


class Redis:
    """The interface of all state to the server.

    A command is sent in one bundle with other commands of the same moment. Its caller may be cancelled at any time:
    the bundle continues, so that no connection is left with an unread reply.
    """

    def __init__(self, address: str, *, prefix: str) -> None:
        self._prefix = prefix
        self._address = address
        self._link = Link(connect(address))
        self._reconnected_at = -math.inf
        self._waiting: list[tuple[tuple[Value, ...], asyncio.Future[Any]]] = []
        self._bundles = 0
        self._tasks: set[asyncio.Task[None]] = set()
        # Why no commands are sent; None while the server answers.
        self._away: Reason | None = None
        # Why the server refuses a subscription; None if it does not, or if there are no subscriptions.
        self._unsubscribed: Reason | None = None
        self._logged_at: dict[str, float] = {}

    def key(self, *parts: str) -> str:
        """Return the name of a key. The braces keep all keys of an agent in one slot (Redis Cluster: hash tags)."""
        return ":".join((f"{{{self._prefix}}}", *parts))

    async def call(self, *command: Value) -> Any:
        """Return the server's reply to one command; strings in it are bytes.

        Raises:
            StateUnavailableError: at once while the server is known to be down, otherwise within a few seconds.
        """
        reply = await self._ask(command)
        if isinstance(reply, ResponseError):
            raise self._refused(command[0], reply) from None
        return reply

    async def read(self, *command: Value) -> Any:
        """Return the same as `call`, but None if the value of the key has another type than the command reads.

        Raises:
            StateUnavailableError: as for `call`.
        """
        reply = await self._ask(command)
        if isinstance(reply, ResponseError):
            if is_wrong_type(reply):
                return None
            raise self._refused(command[0], reply) from None
        return reply

    async def run(self, script: Script, keys: Sequence[str], *arguments: Value) -> Any:
        """Return the result of a script.

        Raises:
            StateUnavailableError: as for `call`.
        """
        rest = (len(keys), *keys, *arguments)
        reply = await self._ask(("EVALSHA", script.sha1, *rest))
        if isinstance(reply, NoScriptError):
            # The server has restarted and lost its scripts; EVAL loads this one again.
            reply = await self._ask(("EVAL", script.text, *rest))
        if isinstance(reply, ResponseError):
            raise self._refused(script.name, reply) from None
        return reply

    async def check(self) -> None:
        """Check that the server allows all that the agent needs: writes, and each command, key and channel.

        Raises:
            StateUnavailableError: if it does not. Its detail names what the Redis user has no permission for.
        """
        # The check writes, because a full server or a replica executes all other commands.
        parts = {self.key(part, "check"): f"keys of {part}s" for part in _PARTS_OF_STATE}
        channels = [self.key("task", name) for name in _CHANNELS]
        reply = await self.run(_CHECK, [self.key("health")], len(parts), *parts, *channels)
        lacking = [parts.get(name.decode(), name.decode()) for name in reply]
        if self._unsubscribed == "not_permitted":
            lacking.append("SUBSCRIBE")
        if lacking:
            names = ", ".join(dict.fromkeys(lacking))
            raise StateUnavailableError(
                "not_permitted", f"The Redis user lacks permissions that the agent needs: {names}."
            )

    @asynccontextmanager
    async def subscribe(self, *channels: str) -> AsyncIterator[AsyncIterator[tuple[str, bytes]]]:
        """Yield an iterator of the messages on `channels`, as pairs of channel and message, until the context ends.

        The subscription reconnects by itself. Messages published in the meantime are lost, so callers must also poll.
        """
        messages = self._messages(channels)
        try:
            yield messages
        finally:
            await messages.aclose()

    async def close(self) -> None:
        """Close all connections. No commands are sent afterwards."""
        self._away = self._away or "unreachable"
        self._give_up(self._away)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await close(self._link)

    async def _ask(self, command: tuple[Value, ...]) -> Any:
        """Return the reply, which may be an error of the server as an object.

        After a failover, an old connection still leads to the former master. It has not executed the command, so the
        command is retried on a new connection, which resolves the host name again.
        """
        link = self._link
        reply = await self._send(command)
        if isinstance(reply, ResponseError) and reason_of(reply) in ELSEWHERE and self._reconnect(link):
            reply = await self._send(command)
        return reply

    def _send(self, command: tuple[Value, ...]) -> "asyncio.Future[Any]":
        """Add the command to the next bundle, and return the future of its reply."""
        if self._away is not None:
            raise StateUnavailableError(self._away)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, future))
        if len(self._waiting) == 1 and self._bundles < _MOST_BUNDLES:
            # Not at once: other callbacks that are ready in this iteration of the loop add their commands first.
            asyncio.get_running_loop().call_soon(self._send_bundle)
        return future

    def _send_bundle(self) -> None:
        if self._waiting and self._bundles < _MOST_BUNDLES:
            bundle, self._waiting = self._waiting[:_LARGEST_BUNDLE], self._waiting[_LARGEST_BUNDLE:]
            self._bundles += 1
            self._link.bundles += 1
            self._start(self._exchange(self._link, bundle))

    async def _exchange(self, link: Link, bundle: list[tuple[tuple[Value, ...], asyncio.Future[Any]]]) -> None:
        # Every future gets a result, so that no caller waits forever.
        replies: list[Any] = [StateUnavailableError() for _ in bundle]
        try:
            pipeline = link.client.pipeline(transaction=False)
            for command, _ in bundle:
                pipeline.execute_command(*command)
            replies = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError, TimeoutError) as error:
            replies = [StateUnavailableError(reason_of(error)) for _ in bundle]
            self._lost(link, error)
        except Exception as error:
            # A bug of the service, such as an argument that cannot be sent.
            _log.error("Commands to Redis failed unexpectedly", error=type(error).__name__, where=where(error))
        finally:
            self._bundles -= 1
            link.bundles -= 1
            self._retire(link)
            for (_, future), reply in zip(bundle, replies, strict=True):
                _settle(future, reply)
            self._send_bundle()

    def _reconnect(self, link: Link) -> bool:
        """Replace the connections of `link`; return whether the current connections are different ones."""
        now = asyncio.get_running_loop().time()
        if link is self._link and now - self._reconnected_at >= _RECONNECT_SECONDS and self._away is None:
            self._reconnected_at = now
            self._replace_link()
        return link is not self._link

    def _replace_link(self) -> None:
        """Use new connections from now on. Bundles in flight on the old ones complete there."""
        old, self._link = self._link, Link(connect(self._address))
        self._retire(old)

    def _retire(self, link: Link) -> None:
        if link is not self._link and not link.bundles:
            self._start(close(link))

    def _lost(self, link: Link, error: Exception) -> None:
        if link is not self._link:
            # The connection was already replaced; the current one may work.
            return
        reason = reason_of(error)
        self._give_up(reason)
        if self._away is None:
            _log.warning("Lost the connection to Redis", error=type(error).__name__, kind=reason)
            self._start(self._recover())
        self._away = reason
        # Other connections of this link may lead to a dead machine, and each would wait for its timeout.
        self._replace_link()

    def _give_up(self, reason: Reason) -> None:
        waiting, self._waiting = self._waiting, []
        for _, future in waiting:
            _settle(future, StateUnavailableError(reason))

    async def _recover(self) -> None:
        while True:
            await asyncio.sleep(RECOVERY_SECONDS)
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._link.client.get(self.key("health"))
            except (RedisError, OSError, TimeoutError) as error:
                reason = reason_of(error)
                # A server that refuses only this command is back; one that refuses the login has the same reason as
                # before.
                if not isinstance(error, ResponseError) or reason == self._away:
                    if reason != self._away:
                        _log.warning("Redis was still unavailable", error=type(error).__name__, kind=reason)
                    self._away = reason
                    continue
            self._away = None
            _log.info("Restored the connection to Redis")
            return

    async def _messages(self, channels: tuple[str, ...]) -> AsyncGenerator[tuple[str, bytes]]:
        while True:
            link = self._link
            try:
                async with link.client.pubsub(ignore_subscribe_messages=True) as subscription:
                    await subscription.subscribe(*channels)
                    while link is self._link:
                        message = await subscription.get_message(timeout=_SUBSCRIPTION_SECONDS)
                        self._unsubscribed = None
                        if message is not None:
                            yield message["channel"].decode(), message["data"]
            except ResponseError as error:
                self._unsubscribed = self._refused("SUBSCRIBE", error).reason
                await asyncio.sleep(_SUBSCRIBE_AGAIN_SECONDS)
            except (RedisError, OSError, TimeoutError):
                await asyncio.sleep(RECOVERY_SECONDS)

    def _refused(self, what: Value, error: ResponseError) -> StateUnavailableError:
        reason = reason_of(error)
        now = asyncio.get_running_loop().time()
        if now - self._logged_at.get(reason, -math.inf) > _LOG_AGAIN_SECONDS:
            self._logged_at[reason] = now
            # Without the server's message, which could quote an argument.
            _log.error("Redis refused a command", command=str(what), kind=reason)
        return StateUnavailableError(reason)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _settle(future: asyncio.Future[Any], reply: Any) -> None:
    if future.done():
        return
    if isinstance(reply, StateUnavailableError):
        future.set_exception(reply)
    else:
        future.set_result(reply)
