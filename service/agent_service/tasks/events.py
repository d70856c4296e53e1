"""Following the events of a task, in any process: from any position, and until the task ends or waits."""

import asyncio
import re
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Self

from agent_service.lifecycle import Lifecycle, end_tasks
from agent_service.state.redis import Redis
from agent_service.state.redis_errors import StateUnavailableError
from agent_service.state.script import Script
from agent_service.tasks.event_record import StoredEvent, done_event, failed_event, restarted_event, seen_event
from agent_service.tasks.record import parse_error, parse_result

_READ = Script(__package__, "task", "read_events")

# News arrive at once, by subscription. Polling is for missed ones, and for servers that allow no subscription.
_POLL_SECONDS = 1.0

# One reply has at most so many bytes for all readers, and each asks again once it has passed its events on. So a slow
# client costs no more memory than this.
_PAGE_BYTES = 1024 * 1024
_MOST_READERS = 256

_POSITION = re.compile(r"[0-9]{1,15}", re.ASCII)

_ELSEWHERE = "This event id belongs to another stream; omit it to read this one from its start."

_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


class UnknownTaskError(Exception):
    """The owner has no task with this id, or it has expired."""

    def __init__(self) -> None:
        super().__init__("The task does not exist; it may have expired.")


class InvalidPositionError(Exception):
    """The position belongs to another stream, or lies in the future. The message is for clients."""


class Following:
    """The events of one task, one after the other. A call of `anext` may be cancelled; no event is lost by that.

    `count` is the number of events that there were at the start, with the last one if the task has ended.
    """

    def __init__(
        self, events: "Events", owner: str, task_id: str, after: str | None, *, while_draining: bool = False
    ) -> None:
        self.task_id = task_id
        self._events = events
        self._owner = owner
        self._after = after
        self._while_draining = while_draining
        self.count = 0
        self._position: int | None = None
        self._page: deque[StoredEvent] = deque()
        self._ended = False
        # Set when there may be more than was read last.
        self._news = asyncio.Event()
        self._has_all = False

    @property
    def is_over(self) -> bool:
        """Whether no event follows."""
        return self._ended and not self._page

    async def start(self) -> None:
        """Check that there is something to follow. The first call of `anext` does it otherwise.

        Raises:
            UnknownTaskError: if the owner has no such task, or it has expired.
            InvalidPositionError: if the position belongs to another stream, or lies in the future.
            StateUnavailableError: when Redis is unavailable.
        """
        try:
            await self._read()
        except BaseException:
            self._events.leave(self)
            raise

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StoredEvent:
        """Return the next event. Stop after the last one: `done`, `error`, or `input_required` while the task waits.

        Stop without it when this process drains, unless `while_draining`. While Redis is unavailable, this waits.

        Raises:
            UnknownTaskError: if the task has expired.
        """
        if self._position is None:
            await self.start()
        while not self._page:
            if self._ended or (self._events.draining and not self._while_draining):
                self._events.leave(self)
                raise StopAsyncIteration
            if self._has_all:
                await self._news.wait()
            try:
                await self._read()
            except StateUnavailableError:
                self._has_all = True
        return self._page.popleft()

    def take(self) -> list[StoredEvent]:
        """Return the next events that were read already."""
        found = list(self._page)
        self._page.clear()
        return found

    async def aclose(self) -> None:
        """Stop following."""
        self._ended = True
        self._page.clear()
        self._events.leave(self)

    def wake(self) -> None:
        """Read again, because there may be more."""
        self._news.set()

    async def _read(self) -> None:
        begins = self._position is None
        position = self._first_position() if self._position is None else self._position
        self._events.join(self)
        self._news.clear()
        reply = await self._events.read(self.task_id, max(position, 0))
        if not reply or reply[0].decode("utf-8", "replace") != self._owner:
            self._ended = True
            self._events.leave(self)
            raise UnknownTaskError
        if begins:
            self._check(position, reply)
        self._take(position, reply)

    def _first_position(self) -> int:
        """Return the number of events that the client has; -1 if its position is none of this stream."""
        if self._after is None:
            return 0
        task_id, _, number = self._after.rpartition(".")
        return int(number) if task_id == self.task_id and _POSITION.fullmatch(number) else -1

    def _check(self, position: int, reply: Sequence[Any]) -> None:
        _, status, total, *_ = reply
        if position < 0:
            self._ended = True
            raise InvalidPositionError(_ELSEWHERE)
        has_last = status in {b"completed", b"failed"}
        self.count = total + has_last
        if position > self.count:
            self._ended = True
            raise InvalidPositionError("This event id lies in the future; omit it to read the stream from its start.")
        # After the last event, nothing follows.
        self._ended = has_last and position == total + 1

    def _take(self, position: int, reply: Sequence[Any]) -> None:
        _, status, total, first, stored, conversation, value, streamed = reply
        waits = status == b"input_required"
        if not self._ended:
            for number, event in enumerate(stored, start=first + 1):
                is_last = waits and number == total
                seen = seen_event(event, is_last=is_last)
                if seen is not None:
                    self._page.append(StoredEvent(f"{self.task_id}.{number}", seen))
                self._ended = self._ended or is_last
            if value:
                self._end(total, value, status, conversation, lost=not streamed or (not stored and position < total))
            position = max(position, first + len(stored)) if stored or value else position
        self._position = position
        self._has_all = position >= total or first >= total

    def _end(self, total: int, value: bytes, status: bytes, conversation: bytes, *, lost: bool) -> None:
        self._ended = True
        try:
            if status == b"failed":
                last = failed_event(parse_error(value))
            else:
                result = parse_result(value)
                if lost:
                    whole = restarted_event(result["response"]).encode()
                    self._page.append(StoredEvent(f"{self.task_id}.{total}", whole))
                last = done_event(result, conversation.decode("ascii", "replace"))
        except _UNREADABLE:
            self._events.note_damaged(self.task_id)
            raise UnknownTaskError from None
        self._page.append(StoredEvent(f"{self.task_id}.{total + 1}", last))


class Events:
    """Reads the events of tasks for all their followers in this process together."""

    def __init__(self, redis: Redis, lifecycle: Lifecycle, note_damaged: Callable[[str], None]) -> None:
        """Take the store. While the process drains, all followers end. `note_damaged` is called with a task's id."""
        self.note_damaged = note_damaged
        self._redis = redis
        self._lifecycle = lifecycle
        self._name = redis.key("task")
        self._followers: dict[str, set[Following]] = {}
        self._due: list[tuple[str, int, asyncio.Future[Sequence[Any]]]] = []
        self._reading: asyncio.Task[None] | None = None
        self._background: list[asyncio.Task[None]] = []

    @property
    def draining(self) -> bool:
        """Whether all followers end, so that their clients go on at another replica."""
        return self._lifecycle.draining

    def follow(self, owner: str, task_id: str, after: str | None = None, *, while_draining: bool = False) -> Following:
        """Return the events of a task after one of them; all if `after` is None.

        With `while_draining`, they go on while the process drains, for a client that would not come back.
        """
        return Following(self, owner, task_id, after, while_draining=while_draining)

    async def close(self) -> None:
        """Stop."""
        await end_tasks([*self._background, *([self._reading] if self._reading is not None else [])])

    def join(self, following: Following) -> None:
        """Wake a follower from now on when its task has news."""
        self._followers.setdefault(following.task_id, set()).add(following)
        if not self._background:
            self._background = [asyncio.create_task(self._listen()), asyncio.create_task(self._poll())]

    def leave(self, following: Following) -> None:
        """Wake a follower no more."""
        of_task = self._followers.get(following.task_id)
        if of_task is not None:
            of_task.discard(following)
            if not of_task:
                del self._followers[following.task_id]

    async def read(self, task_id: str, position: int) -> Sequence[Any]:
        """Return the reply of `lua/read_events.lua` for a task."""
        future: asyncio.Future[Sequence[Any]] = asyncio.get_running_loop().create_future()
        self._due.append((task_id, position, future))
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_due())
        return await future

    async def _read_due(self) -> None:
        try:
            while self._due:
                due, self._due = self._due[:_MOST_READERS], self._due[_MOST_READERS:]
                wanted = [each for each in due if not each[2].done()]
                if not wanted:
                    continue
                arguments = [value for task_id, position, _ in wanted for value in (task_id, position)]
                try:
                    replies = await self._redis.run(_READ, [self._name], _PAGE_BYTES, *arguments)
                except Exception as error:
                    # No reader may wait forever.
                    for _, _, future in wanted:
                        if not future.done():
                            future.set_exception(error)
                    continue
                for (_, _, future), reply in zip(wanted, replies, strict=True):
                    if not future.done():
                        future.set_result(reply)
        finally:
            self._reading = None

    async def _listen(self) -> None:
        async with self._redis.subscribe(f"{self._name}:events") as messages:
            async for _, message in messages:
                for task_id in message.decode("ascii", "replace").split(" "):
                    self._wake(task_id)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            for task_id in list(self._followers):
                self._wake(task_id)

    def _wake(self, task_id: str) -> None:
        for follower in self._followers.get(task_id, ()):
            follower.wake()
