"""Several logs as one stream ordered by time, with bounded memory."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator

from agent_operator.tools.pod_logs.lines import Line, Source

# Lines of one container that wait for those of others. Its connection is not read meanwhile.
BUFFER = 16
# How long a line waits for earlier ones of other containers while logs are followed. Most arrive within milliseconds.
PATIENCE_SECONDS = 0.25


class Feed:
    """The lines of one container on their way into the common stream."""

    def __init__(self, source: Source, changed: asyncio.Event) -> None:
        self.source = source
        self.ended = False
        self.error: Exception | None = None
        self._changed = changed
        self._lines: deque[tuple[Line, float]] = deque()
        self._room = asyncio.Event()

    async def put(self, line: Line) -> None:
        """Add a line, as soon as there is room for it."""
        while len(self._lines) >= BUFFER:
            self._room.clear()
            await self._room.wait()
        self._lines.append((line, time.monotonic()))
        self._changed.set()

    def end(self, error: Exception | None = None) -> None:
        """Record that there are no further lines; the error is raised by the merge."""
        self.ended, self.error = True, error
        self._changed.set()

    def first(self) -> tuple[Line, float] | None:
        """Return the first line and the time of its arrival, if there is one."""
        return self._lines[0] if self._lines else None

    def take(self) -> Line:
        """Remove the first line and return it."""
        line, _ = self._lines.popleft()
        self._room.set()
        return line


class Merge:
    """The lines of all feeds, ordered by time.

    While following, a line waits PATIENCE_SECONDS for those of feeds that have none; otherwise until they have one or
    end. The stream ends when all feeds have ended, while following never.
    """

    def __init__(self, *, following: bool) -> None:
        self._following = following
        self._feeds: list[Feed] = []
        self._changed = asyncio.Event()
        self._error: Exception | None = None

    def open(self, source: Source) -> Feed:
        """Return a new feed. Call `end` on it when there are no further lines."""
        feed = Feed(source, self._changed)
        self._feeds.append(feed)
        self._changed.set()
        return feed

    def fail(self, error: Exception) -> None:
        """End the stream with this error."""
        self._error = error
        self._changed.set()

    async def __aiter__(self) -> AsyncIterator[Line]:
        while True:
            self._changed.clear()
            self._raise()
            feed, seconds = self._next()
            if feed is not None and seconds == 0:
                yield feed.take()
                continue
            if feed is None and not self._feeds and not self._following:
                return
            try:
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
        for feed in self._feeds:
            if feed.error is not None:
                raise feed.error
        self._feeds = [feed for feed in self._feeds if not feed.ended or feed.first() is not None]

    def _next(self) -> tuple[Feed | None, float | None]:
        """Return the feed with the earliest line, and the seconds that it has to wait; None: until a change."""
        ready = [(first[0].time, index) for index, feed in enumerate(self._feeds) if (first := feed.first())]
        if not ready:
            return None, None
        feed = self._feeds[min(ready)[1]]
        if len(ready) == len(self._feeds):
            return feed, 0
        if not self._following:
            return feed, None
        first = feed.first()
        arrived = first[1] if first else 0.0
        return feed, max(arrived + PATIENCE_SECONDS - time.monotonic(), 0)
