"""The provider whose answers come from the runtime."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import structlog

from agent_service.agent.errors import ModelError, ModelFailedError, UnreachableError, UnsupportedInputError
from agent_service.agent.messages import Prompt, Usage
from agent_service.agent.pending import INPUT_REQUIRED
from agent_service.agent.provider import Waiting
from agent_service.agent.tools import Caller, Event, Piece, Toolbox, ToolResult
from agent_service.agent.turns import Turn, Turns
from agent_service.runtime import errors, headers
from agent_service.runtime.approvals import ApprovedCalls, messages_after, prompt_after, suspension_of
from agent_service.runtime.protocol import RuntimeProtocol

_log = structlog.get_logger(__name__)

# A container restarts within seconds, and after that with a growing delay (kubelet, CrashLoopBackOff).
LONGEST_WAIT_SECONDS = 30.0

# Before its deadline a turn gets the error that says why there is no answer.
_MARGIN_SECONDS = 0.5

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 1.0

# A runtime that closes the connection without an answer may have died of this very request, and others wait for it.
_MOST_DISCONNECTS = 3

# Kinds of errors of a turn by which the runtime speaks another protocol.
_OTHER_PROTOCOL = {errors.NO_ENDPOINT, "unreadable", "protocol"}


class RuntimeProvider:
    """Calls the runtime, and waits for it while it restarts."""

    def __init__(self, protocol: RuntimeProtocol, turns: Turns, *, model: str, toolbox: Toolbox | None) -> None:
        """Set up the provider.

        Args:
            protocol: calls the runtime.
            turns: registers each turn.
            model: name of the agent's own model.
            toolbox: the tools that the runtime calls through the gateway; None if there are none.
        """
        self.model = model
        self._protocol = protocol
        self._approved = None if toolbox is None else ApprovedCalls(toolbox)
        self._turns = turns
        self._other_protocol: ModelError | None = None
        self._has_answered = False

    async def stream(self, prompt: Prompt, usage: Usage, waiting: Waiting) -> AsyncGenerator[Event]:
        """Yield the answer piece by piece, and its suspension if tool calls of the runtime wait for approvals.

        When these are decided, the approved calls are made, and the runtime gets their results as its next message.

        Raises:
            ModelError: when the answer is missing or incomplete, or the message has more than text.
        """
        if any(block["type"] != "text" for block in prompt.details.content):
            raise UnsupportedInputError("This agent takes text only: leave out images and files.")
        if prompt.details.tools:
            raise UnsupportedInputError("This agent calls no tools of its clients: leave out the tools.")
        usage.of_many_calls = True
        with self._turns.begin(_turn(prompt, usage)) as turn:
            before: tuple[Mapping[str, Any], ...] = ()
            if prompt.resumption is not None and self._approved is not None:
                results: list[ToolResult] = []
                caller = Caller(turn.deadline, turn.client, turn.token)
                async with aclosing(self._approved.make(prompt.resumption, caller, results)) as made:
                    async for result in made:
                        yield result or ""
                before = messages_after(prompt.resumption.suspension, results)
                prompt = prompt_after(prompt, before)
            texts: list[str] = []
            async with aclosing(self._answer(prompt, turn)) as pieces:
                async for piece in pieces:
                    if isinstance(piece, str):
                        texts.append(piece)
                    yield piece
            if turn.pending:
                usage.stop_reason = INPUT_REQUIRED
                yield suspension_of(before, "".join(texts), turn.pending)

    async def _answer(self, prompt: Prompt, turn: Turn) -> AsyncGenerator[Piece]:
        """Yield the runtime's answer. Only a request to which no reply has started is repeated."""
        retries = _Retries(turn.deadline)
        started = False
        while True:
            try:
                async with aclosing(self._protocol.answer(prompt, turn)) as pieces:
                    async for piece in pieces:
                        started = True
                        yield piece
            except UnreachableError as error:
                pause = None if started else retries.pause(error)
                if pause is None:
                    raise
            except ModelFailedError as error:
                self._other_protocol = error if error.kind in _OTHER_PROTOCOL else None
                raise
            else:
                self._has_answered = True
                return
            yield ""  # the time until the restart is not the runtime's silence
            await asyncio.sleep(pause)

    async def check(self) -> None:
        """Check whether the runtime works; raise a ModelError if not."""
        await self.state()

    async def state(self) -> str:
        """Return a sentence on the state of the runtime; raise a ModelError if it does not work.

        A runtime that never answered a turn, and lacks the path of the protocol or answers in another form, does not.
        """
        sentence = await self._protocol.check()
        if self._other_protocol is not None and not self._has_answered:
            raise self._other_protocol
        return sentence

    async def close(self) -> None:
        """Close all connections."""
        await self._protocol.close()


class _Retries:
    """Decides whether and when the request of a turn is repeated."""

    def __init__(self, deadline: float) -> None:
        left = min(deadline - time.time() - _MARGIN_SECONDS, LONGEST_WAIT_SECONDS)
        self._until = time.monotonic() + left
        self._pause = _FIRST_PAUSE_SECONDS
        self._disconnects = 0
        self._any = False

    def pause(self, error: UnreachableError) -> float | None:
        """Return the seconds until the next attempt; None if there is none."""
        self._disconnects += error.kind == "disconnected"
        # Many turns wait for the same restart, and must not all come at the same moment.
        pause = self._pause * random.uniform(0.5, 1)  # noqa: S311  # no secret
        if self._disconnects >= _MOST_DISCONNECTS or time.monotonic() + pause > self._until:
            return None
        if not self._any:
            _log.info("Runtime could not be reached, waited for it", kind=error.kind)
            self._any = True
        self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        return pause


def _turn(prompt: Prompt, usage: Usage) -> Turn:
    trace_id, traceparent = headers.trace()
    deadline = time.time() if prompt.deadline is None else prompt.deadline
    return Turn(usage, deadline, prompt.client, headers.request_id(), trace_id, traceparent, token=prompt.token)
