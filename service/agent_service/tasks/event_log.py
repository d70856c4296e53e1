"""Appends the events of running tasks to Redis: collected for a moment, for all tasks of the process at once."""

import asyncio
from collections.abc import Sequence

from agent_service.lifecycle import end_tasks
from agent_service.state.redis import Redis
from agent_service.state.redis_errors import StateUnavailableError
from agent_service.state.script import Script
from agent_service.tasks.event_record import Sent
from agent_service.tasks.event_writer import EventWriter
from agent_service.tasks.events import Events
from agent_service.tasks.record import Claim, LastEvents

_APPEND = Script(__package__, "task", "append_events")

# For this long, events are collected. A reader notices no delay, and a model's 50 tokens cost a few appends at most.
_COLLECT_SECONDS = 0.05

# Interval of attempts while Redis is unavailable.
_RETRY_SECONDS = 0.5

# A batch has at most so many bytes, so that other commands do not wait for it.
_BATCH_BYTES = 1024 * 1024


class EventLog:
    """Sends what the writers of a process have. While Redis is away, they keep it, within bounds."""

    def __init__(self, redis: Redis, events: Events) -> None:
        """Take the store, and what passes the events on to their readers in this process."""
        self._redis = redis
        self._events = events
        self._name = redis.key("task")
        # In the order in which they wrote.
        self._due: dict[EventWriter, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[bool] | None = None

    async def open(self, claim: Claim) -> EventWriter:
        """Return the writer of an attempt, which knows what earlier attempts have sent.

        Raises:
            StateUnavailableError: when that cannot be read.
        """
        stored: Sequence[bytes] = ()
        if claim.events:
            stored = await self._redis.read("LRANGE", f"{self._name}:events:{claim.id}", 0, -1) or ()
        lost = bool(claim.events and not stored)
        self._events.begin_writing(claim)
        return EventWriter(claim, Sent.of(stored), self._wrote, self._send_now, lost=lost)

    def completed(self, writer: EventWriter, last: LastEvents, result: str) -> None:
        """Take note that a task has ended with these events and this result, as stored."""
        self._events.wrote(writer.claim.id, last.before, last.events, result)

    def end(self, writer: EventWriter) -> None:
        """Send nothing more of an attempt."""
        writer.close()
        self._due.pop(writer, None)
        self._events.end_writing(writer.claim.id)

    async def close(self) -> None:
        """Stop. What was not sent is lost, unless its task has requeued it."""
        self._due.clear()
        if self._sending is not None:
            await end_tasks([self._sending])
        if self._timer is not None:
            self._timer.cancel()

    def _wrote(self, writer: EventWriter) -> None:
        self._due[writer] = None
        if self._timer is None and self._sending is None:
            self._timer = asyncio.get_running_loop().call_later(_COLLECT_SECONDS, self._start)

    async def _send_now(self) -> None:
        """Send what the writers have.

        Raises:
            StateUnavailableError: when Redis is unavailable; it is sent later.
        """
        self._start()
        if self._sending is not None and not await asyncio.shield(self._sending):
            raise StateUnavailableError

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> bool:
        """Send what is due; return whether Redis answered."""
        answered = False
        try:
            answered = await self._send_due()
        finally:
            self._sending = None
            if self._due:
                seconds = _COLLECT_SECONDS if answered else _RETRY_SECONDS
                self._timer = asyncio.get_running_loop().call_later(seconds, self._start)
        return answered

    async def _send_due(self) -> bool:
        left = list(self._due)
        self._due.clear()
        while left:
            batch, arguments, size = list[tuple[EventWriter, LastEvents]](), list[str | int](), 0
            while left and size < _BATCH_BYTES:
                writer = left.pop(0)
                last = writer.batch()
                if last is None:
                    continue
                batch.append((writer, last))
                head = writer.claim.id, writer.claim.attempt, last.before, int(last.whole), len(last.events)
                arguments += [*head, *last.events]
                size += sum(map(len, last.events))
            if not batch:
                continue
            try:
                replies: Sequence[int] = await self._redis.run(_APPEND, [self._name], *arguments)
            except StateUnavailableError:
                for writer in [*(each for each, _ in batch), *left]:
                    self._due[writer] = None
                return False
            for (writer, last), reply in zip(batch, replies, strict=True):
                writer.replied(reply)
                if not writer.is_open:
                    self._events.end_writing(writer.claim.id)
                elif reply >= 0:
                    self._events.wrote(writer.claim.id, reply - len(last.events), last.events)
        return True
