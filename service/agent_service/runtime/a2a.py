"""Protocol `a2a`: the runtime is an A2A agent, of version 1.0 or 0.3, over JSON-RPC or HTTP+JSON.

What differs from a call of the agent by any other A2A client:

- The card names the agent's public address. Here the agent is called at `RUNTIME_URL`, with the path of the card's
  URL, or with `RUNTIME_PATH`.
- `contextId` is the id of the conversation. A2A agents keep their own context by it, so only the new message is sent.
- A task that asked for input is continued by the next message of the conversation, in the process that knows of it.
  After a restart, or in another pod, that message starts a new task in the same context.
- A2A has no field for a system prompt. It is sent in the message's metadata, as `system`.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import orjson
import structlog

from agent_service.agent.errors import ModelError, UnreachableError
from agent_service.agent.messages import Prompt
from agent_service.agent.tools import Piece
from agent_service.agent.turns import Turn
from agent_service.runtime import a2a_calls, answers, errors, headers
from agent_service.runtime.a2a_answer import Answer
from agent_service.runtime.a2a_calls import Call
from agent_service.runtime.a2a_card import WELL_KNOWN, Interface, choose
from agent_service.runtime.a2a_errors import UNKNOWN_TASK
from agent_service.runtime.a2a_events import task
from agent_service.runtime.a2a_replies import reader, result
from agent_service.runtime.connection import Connection, Reply
from agent_service.runtime.health import check_path

_ACCEPT = {"Accept": "text/event-stream, application/json, application/a2a+json"}

# A card of many skills has a hundred kilobytes.
_MOST_CARD_BYTES = 2**20

# An agent that does not stream is asked for its task: soon at first, as most are quick, and then every two seconds.
_FIRST_WAIT_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 2.0
_LENGTHENED = 1.5

# A cancellation is a courtesy to the agent, and must not keep connections or the end of the process waiting.
_CANCEL_SECONDS = 5.0

# Tasks that wait for the user's next message: the oldest is forgotten, and its message starts a new task.
_MOST_WAITING = 10_000

# Errors with which an agent refuses to continue a task, before it has started to answer.
_NOT_CONTINUED = frozenset({UNKNOWN_TASK, errors.NO_ENDPOINT, "protocol", "refused"})

_log = structlog.get_logger(__name__)


class A2a:
    """Calls an A2A agent."""

    def __init__(self, connection: Connection, *, path: str | None = None, health_path: str | None = None) -> None:
        """Call the agent over `connection`.

        Args:
            connection: the connections to the runtime.
            path: the path that replaces the one in the card's URL; the card may be below it, too.
            health_path: the path that `check` requests; without it, the card is read.
        """
        self._connection = connection
        self._path = path
        self._health_path = health_path
        self._interface: Interface | None = None
        self._reading = asyncio.Lock()
        self._waiting: OrderedDict[str, str] = OrderedDict()
        self._cancellations: set[asyncio.Task[None]] = set()

    async def answer(self, prompt: Prompt, turn: Turn) -> AsyncGenerator[Piece]:
        """Yield the answer piece by piece. An agent that does not stream yields it when its task has ended.

        A task whose answer is not complete when the generator ends is canceled in the background. The id of a task is
        known from its first event; without streaming, from the reply.
        """
        try:
            interface = await self._known_interface()
            exchange = _Exchange(self._connection, interface, {**headers.of_turn(turn), **_ACCEPT})
            try:
                async with aclosing(self._ask(exchange, prompt)) as pieces:
                    async for piece in pieces:
                        yield piece
            finally:
                self._end(exchange)
        except ModelError:
            # After a restart the agent may be another version.
            self._interface = None
            raise
        if exchange.answer.waits:
            self._remember(prompt.conversation_id, exchange.answer.task_id)

    async def check(self) -> str:
        """Request the health path, or read the agent card, and return a sentence on the runtime."""
        if self._health_path is not None:
            return await check_path(self._connection, self._health_path)
        self._interface = await self._read_card()
        return f"The agent's runtime answers: {self._interface.label}."

    async def close(self) -> None:
        """Wait for pending cancellations, and close all connections."""
        if self._cancellations:
            await asyncio.wait(self._cancellations, timeout=_CANCEL_SECONDS)
        await self._connection.close()

    async def _ask(self, exchange: "_Exchange", prompt: Prompt) -> AsyncGenerator[Piece]:
        """Continue the task that waits for this message, if there is one; else start a new one."""
        conversation_id = prompt.conversation_id or ""
        waiting = self._waiting.get(conversation_id)
        if waiting is not None:
            try:
                async with aclosing(exchange.ask(prompt, waiting)) as pieces:
                    async for piece in pieces:
                        yield piece
            except ModelError as error:
                if exchange.answer.started or error.kind not in _NOT_CONTINUED:
                    raise
            else:
                return
            finally:
                if exchange.answer.started:
                    self._waiting.pop(conversation_id, None)
            # The agent no longer has the task, for example after a restart.
            self._waiting.pop(conversation_id, None)
        async with aclosing(exchange.ask(prompt)) as pieces:
            async for piece in pieces:
                yield piece

    def _remember(self, conversation_id: str | None, task_id: str | None) -> None:
        if conversation_id is None or task_id is None:
            return
        self._waiting[conversation_id] = task_id
        if len(self._waiting) > _MOST_WAITING:
            self._waiting.popitem(last=False)

    def _end(self, exchange: "_Exchange") -> None:
        """Cancel the task of an exchange that is not complete."""
        if exchange.answer.ended or exchange.answer.task_id is None:
            return
        cancellation = asyncio.get_running_loop().create_task(exchange.cancel(exchange.answer.task_id))
        self._cancellations.add(cancellation)
        cancellation.add_done_callback(self._cancellations.discard)

    async def _known_interface(self) -> Interface:
        if self._interface is None:
            async with self._reading:
                if self._interface is None:
                    self._interface = await self._read_card()
        return self._interface

    async def _read_card(self) -> Interface:
        """Read the agent card, at the first of its usual places that has one."""
        prefix = (self._path or "").partition("?")[0].rstrip("/")
        paths = [*([prefix + WELL_KNOWN[0]] if prefix else []), *WELL_KNOWN]
        for path in paths:
            try:
                reply = await self._connection.send("GET", path, headers={"Accept": "application/json"})
            except ModelError as error:
                if error.kind != errors.NO_ENDPOINT or path == paths[-1]:
                    raise
                continue
            return choose(await _read(reply, _MOST_CARD_BYTES), path=self._path)
        raise AssertionError  # the last path returns or raises


class _Exchange:
    """One message to the agent, and its answer."""

    def __init__(self, connection: Connection, interface: Interface, headers: Mapping[str, str]) -> None:
        self.answer = Answer()
        self._connection = connection
        self._interface = interface
        self._headers = {**headers, "A2A-Version": interface.version}

    async def ask(self, prompt: Prompt, task_id: str | None = None) -> AsyncGenerator[Piece]:
        """Send the message, and yield the answer until it is complete."""
        call = a2a_calls.send(self._interface, prompt, task_id)
        reply = answers.call(
            self._connection,
            call.path,
            headers=self._headers,
            content=orjson.dumps(call.body),
            reader_of=lambda media_type: reader(media_type, self._interface, self.answer),
        )
        async with aclosing(reply) as pieces:
            async for piece in pieces:
                yield piece
        yield self.answer.finish()
        wait = _FIRST_WAIT_SECONDS
        while not self.answer.ended:
            if self.answer.task_id is None:
                raise errors.broke_off()
            await asyncio.sleep(wait)
            wait = min(wait * _LENGTHENED, _LONGEST_WAIT_SECONDS)
            yield await self._poll(self.answer.task_id)

    async def cancel(self, task_id: str) -> None:
        """Cancel the task. That the agent cannot, or does not answer, is only logged."""
        try:
            async with asyncio.timeout(_CANCEL_SECONDS):
                (await self._send(a2a_calls.cancel(self._interface, task_id))).close()
        except (ModelError, TimeoutError) as error:
            _log.info("Task of the runtime was not canceled", error=str(error) or type(error).__name__)

    async def _poll(self, task_id: str) -> str:
        """Read the task, and return the text that is new."""
        try:
            value = await _read(await self._send(a2a_calls.get(self._interface, task_id)), answers.LARGEST_BYTES)
            return self.answer.take(task(result(value, self._interface)))
        except ModelError as error:
            # Not an UnreachableError: with that the whole message would be sent again.
            if error.kind == UNKNOWN_TASK or isinstance(error, UnreachableError):
                raise errors.broke_off(upstream=error.upstream) from error
            raise

    async def _send(self, call: Call) -> Reply:
        content = None if call.body is None else orjson.dumps(call.body)
        return await self._connection.send(call.method, call.path, headers=self._headers, content=content)


async def _read(reply: Reply, most_bytes: int) -> object:
    """Return the JSON in a reply, and close it."""
    try:
        value: object = answers.loads(await reply.read(most_bytes))
    except ValueError as error:
        raise errors.unreadable("is not JSON", upstream=str(error)) from error
    finally:
        reply.close()
    return value
