"""The one owner of the connections to the Redis server: who gets them, how long anybody waits, what a failure means."""

import asyncio
import contextlib
import hashlib
import math
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from typing import Any

import structlog
from redis.asyncio import Redis as Client
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from agent_service.state.redis_errors import DETAILS, ELSEWHERE, Reason, reason_of
from agent_service.telemetry.logs import where

_log = structlog.get_logger(__name__)

Value = str | int | float | bytes

# A server in the same cluster answers a SYN in milliseconds. What takes longer is away, and a chat is waiting.
CONNECT_SECONDS = 1.0

# Long enough for a server that forks to rewrite its file, short enough that a frozen one is noticed by one request
# in flight and not by its user.
ANSWER_SECONDS = 2.0

# While the server is away nobody waits for it: one task looks this often whether it is back.
RECOVERY_SECONDS = 0.5

# Commands of one moment travel together. While this many bundles are under way the next ones gather; more bundles
# at once would only be smaller ones.
_MOST_BUNDLES = 4
_LARGEST_BUNDLE = 256

# A server that is full refuses every command of every request: that is one line in the log, from time to time.
_TELL_AGAIN_SECONDS = 30.0

# How long a subscription waits before it looks whether its connection still lives.
_SUBSCRIPTION_SECONDS = 10.0

# A user without the right to a channel gets it from an administrator, not by asking again soon.
_SUBSCRIBE_AGAIN_SECONDS = 10.0

# New connections may lead to the same server, as until a failover is known to DNS. So not with each request.
_RECONNECT_SECONDS = 0.5

# What the agent needs a right to; one key stands for all keys of its part. See `lua/check.lua`.
_PARTS_OF_STATE = ("task", "conversation", "limit", "budget")
_CHANNELS = ("news", "cancelled")


class StateUnavailableError(Exception):
    """The Redis server cannot be reached, or cannot do what it was asked. The words are fit for a client.

    `reason` is for programs; `detail` is a sentence for those who run the agent, without any words of the server.
    """

    def __init__(self, reason: Reason = "unreachable", detail: str | None = None) -> None:
        super().__init__("The store of this agent's state cannot be reached; try again in a moment.")
        self.reason = reason
        self.detail = DETAILS[reason] if detail is None else detail


class Script:
    """A Lua script in the folder `lua` of a package, which the server runs in one step (Redis: "Scripting with Lua").

    Several names are one script of several files; what the first ones define, the last one uses.
    """

    def __init__(self, package: str, *names: str) -> None:
        self.name = names[-1]
        folder = resources.files(package).joinpath("lua")
        self.text = b"\n".join(folder.joinpath(f"{name}.lua").read_bytes() for name in names)
        self.sha1 = hashlib.sha1(self.text, usedforsecurity=False).hexdigest()


@dataclass(slots=True)
class _Link:
    """Connections that were made at about the same time, and the bundles that are under way on them."""

    client: Client
    bundles: int = 0


def connect(address: str) -> Client:
    """Return a client of the server. It makes no connection before its first command.

    Raises:
        ValueError, TypeError, RedisError: if the address has a value or an option that cannot be used.
    """
    # A connection of a Unix socket does not know the option.
    options: dict[str, Any] = {} if address.startswith("unix:") else {"socket_keepalive": True}
    # No retries: a script that was sent may have run. Who can repeat a step knows so, and does.
    return Client.from_url(
        address,
        protocol=2,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
        **options,
    )


_CHECK = Script(__package__, "check")


class Redis:
    """The server, as all of the state sees it.

    A command is bundled with what others send at the same moment, and its caller may be cancelled at any time: the
    bundle goes on, so that no connection is left with an answer that nobody reads.
    """

    def __init__(self, address: str, *, prefix: str) -> None:
        self._prefix = prefix
        self._address = address
        self._link = _Link(connect(address))
        self._reconnected_at = -math.inf
        self._waiting: list[tuple[tuple[Value, ...], asyncio.Future[Any]]] = []
        self._bundles = 0
        self._tasks: set[asyncio.Task[None]] = set()
        # Why nothing is sent; None while the server answers.
        self._away: Reason | None = None
        # Why the server refuses a subscription; None while it does not, or where nothing subscribes.
        self._unsubscribed: Reason | None = None
        self._told: dict[str, float] = {}

    def key(self, *parts: str) -> str:
        """Give the name of a key. The braces keep all keys of an agent in one slot (Redis Cluster: hash tags)."""
        return ":".join((f"{{{self._prefix}}}", *parts))

    async def call(self, *command: Value) -> Any:
        """Give the server's reply to one command; texts in it are bytes.

        Raises:
            StateUnavailableError: at once while the server is known to be away, else after a few seconds at most.
        """
        reply = await self._ask(command)
        if isinstance(reply, ResponseError):
            raise self._refused(command[0], reply) from None
        return reply

    async def read(self, *command: Value) -> Any:
        """Return what `call` does, but None where the key holds a value of another type than the command reads.

        Raises:
            StateUnavailableError: as for `call`.
        """
        reply = await self._ask(command)
        if isinstance(reply, ResponseError):
            if _is_wrong_type(reply):
                return None
            raise self._refused(command[0], reply) from None
        return reply

    async def run(self, script: Script, keys: Sequence[str], *arguments: Value) -> Any:
        """Give the result of a script.

        Raises:
            StateUnavailableError: as for `call`.
        """
        rest = (len(keys), *keys, *arguments)
        reply = await self._ask(("EVALSHA", script.sha1, *rest))
        if isinstance(reply, NoScriptError):
            # A server that was started anew; EVAL makes it known again.
            reply = await self._ask(("EVAL", script.text, *rest))
        if isinstance(reply, ResponseError):
            raise self._refused(script.name, reply) from None
        return reply

    async def check(self) -> None:
        """Find out whether the server does all that the agent needs: writes, and each command, key and channel.

        Raises:
            StateUnavailableError: if not. Its detail names what the user has no right to.
        """
        # Written, because a server that is full or only a replica answers well to everything else.
        parts = {self.key(part, "check"): f"keys of {part}s" for part in _PARTS_OF_STATE}
        channels = [self.key("task", name) for name in _CHANNELS]
        reply = await self.run(_CHECK, [self.key("health")], len(parts), *parts, *channels)
        lacking = [parts.get(name.decode(), name.decode()) for name in reply]
        if self._unsubscribed == "not_permitted":
            lacking.append("SUBSCRIBE")
        if lacking:
            names = ", ".join(dict.fromkeys(lacking))
            raise StateUnavailableError("not_permitted", f"The Redis user may not use what the agent needs: {names}.")

    @asynccontextmanager
    async def subscribe(self, *channels: str) -> AsyncIterator[AsyncIterator[tuple[str, bytes]]]:
        """Give what is published on `channels`, as pairs of channel and message, until the context ends.

        It connects anew by itself. What is published meanwhile is lost: look beside it, from time to time.
        """
        messages = self._messages(channels)
        try:
            yield messages
        finally:
            await messages.aclose()

    async def close(self) -> None:
        """Close all connections. Nothing is sent after that."""
        self._away = self._away or "unreachable"
        self._give_up(self._away)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await _close(self._link)

    async def _ask(self, command: tuple[Value, ...]) -> Any:
        """Return the reply, which may be an error of the server's as an object.

        After a failover an old connection still leads to the server that was the master. It has executed nothing, so
        the command is sent once more on a new connection, which leads to where the name points now.
        """
        link = self._link
        reply = await self._send(command)
        if isinstance(reply, ResponseError) and reason_of(reply) in ELSEWHERE and self._reconnect(link):
            reply = await self._send(command)
        return reply

    def _send(self, command: tuple[Value, ...]) -> "asyncio.Future[Any]":
        """Put the command into the next bundle; return the future of its reply."""
        if self._away is not None:
            raise StateUnavailableError(self._away)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, future))
        if len(self._waiting) == 1 and self._bundles < _MOST_BUNDLES:
            # Not at once: what else is ready to run in this round of the loop sends its commands first.
            asyncio.get_running_loop().call_soon(self._send_bundle)
        return future

    def _send_bundle(self) -> None:
        if self._waiting and self._bundles < _MOST_BUNDLES:
            bundle, self._waiting = self._waiting[:_LARGEST_BUNDLE], self._waiting[_LARGEST_BUNDLE:]
            self._bundles += 1
            self._link.bundles += 1
            self._start(self._exchange(self._link, bundle))

    async def _exchange(self, link: _Link, bundle: list[tuple[tuple[Value, ...], asyncio.Future[Any]]]) -> None:
        # Whatever happens, nobody waits for ever.
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
            # A fault of ours, such as an argument that cannot be sent.
            _log.error("Commands to Redis failed unexpectedly", error=type(error).__name__, where=where(error))
        finally:
            self._bundles -= 1
            link.bundles -= 1
            self._retire(link)
            for (_, future), reply in zip(bundle, replies, strict=True):
                _settle(future, reply)
            self._send_bundle()

    def _reconnect(self, link: _Link) -> bool:
        """Leave the connections of `link` for new ones; return whether there are others than those now."""
        now = asyncio.get_running_loop().time()
        if link is self._link and now - self._reconnected_at >= _RECONNECT_SECONDS and self._away is None:
            self._reconnected_at = now
            self._replace_link()
        return link is not self._link

    def _replace_link(self) -> None:
        """Use new connections from now on. What is under way on the old ones ends there."""
        old, self._link = self._link, _Link(connect(self._address))
        self._retire(old)

    def _retire(self, link: _Link) -> None:
        if link is not self._link and not link.bundles:
            self._start(_close(link))

    def _lost(self, link: _Link, error: Exception) -> None:
        if link is not self._link:
            # The server that was left; the one that is asked now may be well.
            return
        reason = reason_of(error)
        self._give_up(reason)
        if self._away is None:
            _log.warning("Redis was lost", error=type(error).__name__, kind=reason)
            self._start(self._recover())
        self._away = reason
        # Others of these connections may lead to a machine that is gone, and each would cost its time limit.
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
                # A server that refuses only this command has answered; one that refuses the login has the same reason
                # as before.
                if not isinstance(error, ResponseError) or reason == self._away:
                    if reason != self._away:
                        _log.warning("Redis was not back yet", error=type(error).__name__, kind=reason)
                    self._away = reason
                    continue
            self._away = None
            _log.info("Redis was back")
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
        if now - self._told.get(reason, -math.inf) > _TELL_AGAIN_SECONDS:
            self._told[reason] = now
            # Not in the server's words, which could quote an argument.
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


async def _close(link: _Link) -> None:
    with contextlib.suppress(RedisError, OSError, TimeoutError):
        await link.client.aclose()


def _is_wrong_type(error: ResponseError) -> bool:
    # redis-py cuts the code of an error off its text, and keeps it beside.
    return getattr(error, "status_code", None) == "WRONGTYPE" or "wrong kind of value" in str(error)
