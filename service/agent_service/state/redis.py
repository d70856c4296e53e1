"""The one owner of the connections to the Redis server: who gets them, how long anybody waits, what a failure means."""

import asyncio
import contextlib
import hashlib
import math
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

import structlog
from redis.asyncio import Redis as Client
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from agent_service.logs import where

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


class StateUnavailableError(Exception):
    """The Redis server cannot be reached, or cannot do what it was asked. The words are fit for a client.

    `kind` is a word for programs, as `GET /health` shows it.
    """

    kind = "unavailable"

    def __init__(self) -> None:
        super().__init__("The store of this agent's state cannot be reached; try again in a moment.")


class Script:
    """A Lua script of `state/lua`, which the server runs in one step (Redis: "Scripting with Lua").

    Several names are one script of several files; what the first ones define, the last one uses.
    """

    def __init__(self, *names: str) -> None:
        self.name = names[-1]
        folder = resources.files(__package__).joinpath("lua")
        self.text = b"\n".join(folder.joinpath(f"{name}.lua").read_bytes() for name in names)
        self.sha1 = hashlib.sha1(self.text, usedforsecurity=False).hexdigest()


class Redis:
    """The server, as all of the state sees it.

    A command is bundled with what others send at the same moment, and its caller may be cancelled at any time: the
    bundle goes on, so that no connection is left with an answer that nobody reads.
    """

    def __init__(self, address: str, *, prefix: str) -> None:
        self._prefix = prefix
        # A connection of a Unix socket does not know the option.
        options: dict[str, Any] = {} if address.startswith("unix:") else {"socket_keepalive": True}
        # No retries: a script that was sent may have run. Who can repeat a step knows so, and does.
        self._client = Client.from_url(
            address,
            protocol=2,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            retry=Retry(NoBackoff(), 0),
            **options,
        )
        self._waiting: list[tuple[tuple[Value, ...], asyncio.Future[Any]]] = []
        self._bundles = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._available = True
        self._told: dict[str, float] = {}

    def key(self, *parts: str) -> str:
        """Give the name of a key. The braces keep all keys of an agent in one slot (Redis Cluster: hash tags)."""
        return ":".join((f"{{{self._prefix}}}", *parts))

    async def call(self, *command: Value) -> Any:
        """Give the server's reply to one command; texts in it are bytes.

        Raises:
            StateUnavailableError: at once while the server is known to be away, else after a few seconds at most.
        """
        reply = await self._send(command)
        if isinstance(reply, ResponseError):
            raise self._refused(command[0], reply) from None
        return reply

    async def read(self, *command: Value) -> Any:
        """Return what `call` does, but None where the key holds a value of another type than the command reads.

        Raises:
            StateUnavailableError: as for `call`.
        """
        reply = await self._send(command)
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
        reply = await self._send(("EVALSHA", script.sha1, *rest))
        if isinstance(reply, NoScriptError):
            # A server that was started anew; EVAL makes it known again.
            reply = await self._send(("EVAL", script.text, *rest))
        if isinstance(reply, ResponseError):
            raise self._refused(script.name, reply) from None
        return reply

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
        self._available = False
        self._give_up()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(RedisError, OSError):
            await self._client.aclose()

    async def _send(self, command: tuple[Value, ...]) -> Any:
        """Give the reply, which may be an error of the server's as an object."""
        if not self._available:
            raise StateUnavailableError
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, future))
        if len(self._waiting) == 1 and self._bundles < _MOST_BUNDLES:
            # Not at once: what else is ready to run in this round of the loop sends its commands first.
            asyncio.get_running_loop().call_soon(self._send_bundle)
        return await future

    def _send_bundle(self) -> None:
        if self._waiting and self._bundles < _MOST_BUNDLES:
            bundle, self._waiting = self._waiting[:_LARGEST_BUNDLE], self._waiting[_LARGEST_BUNDLE:]
            self._bundles += 1
            self._start(self._exchange(bundle))

    async def _exchange(self, bundle: list[tuple[tuple[Value, ...], asyncio.Future[Any]]]) -> None:
        # Whatever happens, nobody waits for ever.
        replies: list[Any] = [StateUnavailableError() for _ in bundle]
        try:
            pipeline = self._client.pipeline(transaction=False)
            for command, _ in bundle:
                pipeline.execute_command(*command)
            replies = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError, TimeoutError) as error:
            self._lost(error)
        except Exception as error:
            # A fault of ours, such as an argument that cannot be sent.
            _log.error("Commands to Redis failed unexpectedly", error=type(error).__name__, where=where(error))
        finally:
            self._bundles -= 1
            for (_, future), reply in zip(bundle, replies, strict=True):
                _settle(future, reply)
            self._send_bundle()

    def _lost(self, error: Exception) -> None:
        self._give_up()
        if self._available:
            self._available = False
            _log.warning("Redis was lost", error=type(error).__name__)
            self._start(self._recover())

    def _give_up(self) -> None:
        waiting, self._waiting = self._waiting, []
        for _, future in waiting:
            _settle(future, StateUnavailableError())

    async def _recover(self) -> None:
        while True:
            await asyncio.sleep(RECOVERY_SECONDS)
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._client.ping()
            except (RedisError, OSError, TimeoutError):
                continue
            self._available = True
            _log.info("Redis was back")
            return

    async def _messages(self, channels: tuple[str, ...]) -> AsyncGenerator[tuple[str, bytes]]:
        while True:
            try:
                async with self._client.pubsub(ignore_subscribe_messages=True) as subscription:
                    await subscription.subscribe(*channels)
                    while True:
                        message = await subscription.get_message(timeout=_SUBSCRIPTION_SECONDS)
                        if message is not None:
                            yield message["channel"].decode(), message["data"]
            except (RedisError, OSError, TimeoutError):
                await asyncio.sleep(RECOVERY_SECONDS)

    def _refused(self, what: Value, error: ResponseError) -> StateUnavailableError:
        # Such as OOM, READONLY or NOAUTH. The first word is the kind; the rest could quote an argument.
        kind = str(error).split(" ", 1)[0][:40]
        now = asyncio.get_running_loop().time()
        if now - self._told.get(kind, -math.inf) > _TELL_AGAIN_SECONDS:
            self._told[kind] = now
            _log.error("Redis refused a command", command=str(what), kind=kind)
        return StateUnavailableError()

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


def _is_wrong_type(error: ResponseError) -> bool:
    # redis-py cuts the code of an error off its text, and keeps it beside.
    return getattr(error, "status_code", None) == "WRONGTYPE" or "wrong kind of value" in str(error)
