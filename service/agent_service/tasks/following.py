"""The position of one reader in the events of a task, and what it reads next."""

import asyncio
import re
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple, Protocol, Self

from agent_service.state.redis_errors import StateUnavailableError
from agent_service.tasks.event_record import StoredEvent, done_event, failed_event, restarted_event, seen_event
from agent_service.tasks.record import parse_error, parse_result

_POSITION = re.compile(r"[0-9]{1,15}", re.ASCII)

_ELSEWHERE = "This event id belongs to another stream; omit it to read this one from its start."

_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


class Page(NamedTuple):
    """Events of a task that follow the first `first` ones, of `total`; the reply of `lua/read_events.lua`.

    `value` is the result or the error of a task that has ended, once no more events follow. `streamed` is whether its
    events have the whole text of the result.
    """

    owner: bytes
    status: bytes
    total: int
    first: int
    events: Sequence[bytes] = ()
    conversation: bytes = b""
    value: bytes = b""
    streamed: bool = False


class Source(Protocol):
    """What a reader needs of `Events`."""

    @property
    def draining(self) -> bool:
        """Whether all readers end, so that their clients go on at another replica."""
        ...

    def join(self, following: "Following") -> None:
        """Wake a reader from now on when its task has news."""
        ...

    def leave(self, following: "Following") -> None:
        """Wake a reader no more."""
        ...

    async def read(self, task_id: str, position: int) -> Page | None:
        """Return the events after the first `position`; None if there is no such task."""
        ...

    def note_damaged(self, task_id: str) -> None:
        """Log and count a damaged record."""
        ...


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
        self, events: Source, owner: str, task_id: str, after: str | None, *, while_draining: bool = False
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
        # A page that this process wrote, and which was not taken yet: one at most, because a client may read slowly.
        self._received: Page | None = None
        # Whether there may be more in Redis than was read.
        self._is_behind = True
        # Set when there may be something to take or to read.
        self._news = asyncio.Event()

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
            if self._received is not None:
                self._take_received(self._received)
            elif self._is_behind:
                # While Redis is unavailable, the next news or poll leads to another attempt.
                with suppress(StateUnavailableError):
                    await self._read()
            else:
                self._news.clear()
                await self._news.wait()
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
        self._is_behind = True
        self._news.set()

    def receive(self, page: Page) -> None:
        """Take what this process has just written, without a read, unless the client is too slow for that."""
        self._is_behind = self._is_behind or self._received is not None
        self._received = page
        self._news.set()

    async def _read(self) -> None:
        begins = self._position is None
        position = self._first_position() if self._position is None else self._position
        self._events.join(self)
        self._is_behind = False
        page = await self._events.read(self.task_id, max(position, 0))
        if page is None or page.owner.decode("utf-8", "replace") != self._owner:
            self._ended = True
            self._events.leave(self)
            raise UnknownTaskError
        if begins:
            self._check(position, page)
        self._take(position, page)

    def _take_received(self, page: Page) -> None:
        self._received = None
        if page.first == self._position:
            self._take(page.first, page)
        else:
            # It was read before, or there is more before it.
            self._is_behind = True

    def _first_position(self) -> int:
        """Return the number of events that the client has; -1 if its position is none of this stream."""
        if self._after is None:
            return 0
        task_id, _, number = self._after.rpartition(".")
        return int(number) if task_id == self.task_id and _POSITION.fullmatch(number) else -1

    def _check(self, position: int, page: Page) -> None:
        if position < 0:
            self._ended = True
            raise InvalidPositionError(_ELSEWHERE)
        has_last = page.status in {b"completed", b"failed"}
        self.count = page.total + has_last
        if position > self.count:
            self._ended = True
            raise InvalidPositionError("This event id lies in the future; omit it to read the stream from its start.")
        # After the last event, nothing follows.
        self._ended = has_last and position == page.total + 1

    def _take(self, position: int, page: Page) -> None:
        waits = page.status == b"input_required"
        if not self._ended:
            for number, event in enumerate(page.events, start=page.first + 1):
                is_last = waits and number == page.total
                seen = seen_event(event, is_last=is_last)
                if seen is not None:
                    self._page.append(StoredEvent(f"{self.task_id}.{number}", seen))
                self._ended = self._ended or is_last
            if page.value:
                self._end(page, lost=not page.streamed or (not page.events and position < page.total))
            if page.events or page.value:
                position = max(position, page.first + len(page.events))
        self._position = position
        self._is_behind = self._is_behind or (position < page.total and page.first < page.total)

    def _end(self, page: Page, *, lost: bool) -> None:
        self._ended = True
        try:
            if page.status == b"failed":
                last = failed_event(parse_error(page.value))
            else:
                result = parse_result(page.value)
                if lost:
                    whole = restarted_event(result["response"]).encode()
                    self._page.append(StoredEvent(f"{self.task_id}.{page.total}", whole))
                last = done_event(result, page.conversation.decode("ascii", "replace"))
        except _UNREADABLE:
            self._events.note_damaged(self.task_id)
            raise UnknownTaskError from None
        self._page.append(StoredEvent(f"{self.task_id}.{page.total + 1}", last))
