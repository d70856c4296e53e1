"""All connections of one process: which one is closed to make room for the next, and which does not read."""

import time
from typing import Protocol

import structlog

_log = structlog.get_logger(__name__)

# One line for all that was closed or refused in so many seconds: an attack must not fill the log.
_LOG_SECONDS = 60.0


class Connection(Protocol):
    """A connection as this module sees it."""

    def unsent(self) -> int:
        """Return how many bytes of answers the kernel has not taken yet, because the client does not read."""

    def abort(self) -> None:
        """Close at once; what is unsent is lost."""


class Connections:
    """Bounds the open connections of a process, and the time for which one may be without progress.

    A new connection is always accepted, because it may be a probe. Beyond the bound the one that has been idle for
    longest makes room for it; a request that is being answered is left alone as long as its client reads.
    """

    def __init__(self, *, most: int, write_seconds: float) -> None:
        """Take the number of connections, and the seconds without write progress after which one is closed."""
        self._most = most
        self._write_seconds = write_seconds
        # Dictionaries are sets with an order: the first is the one that has been there for longest.
        self._all: dict[Connection, None] = {}
        self._idle: dict[Connection, None] = {}
        self._unread: dict[Connection, None] = {}
        # Of those with unsent bytes: how many, and since when they do not become fewer.
        self._stalled: dict[Connection, tuple[int, float]] = {}
        self._counts: dict[str, int] = {}
        self._log_at = 0.0

    def opened(self, connection: Connection) -> None:
        """Add a connection; make room for it."""
        if len(self._all) >= self._most and not self._make_room():
            self.count("no_room")
            connection.abort()
            return
        self._all[connection] = None
        self._idle[connection] = None

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self._all.pop(connection, None)
        self._idle.pop(connection, None)
        self._unread.pop(connection, None)
        self._stalled.pop(connection, None)

    def busy(self, connection: Connection) -> None:
        """A request of this connection begins to be answered."""
        self._idle.pop(connection, None)

    def idle(self, connection: Connection) -> None:
        """Its answer is written."""
        self._unread.pop(connection, None)
        if connection in self._all:
            self._idle[connection] = None

    def paused(self, connection: Connection) -> None:
        """Its client reads more slowly than the answer is made."""
        self._unread[connection] = None

    def resumed(self, connection: Connection) -> None:
        """Its client has read."""
        self._unread.pop(connection, None)
        self._stalled.pop(connection, None)

    def count(self, what: str) -> None:
        """Count something that is logged in summary."""
        self._counts[what] = self._counts.get(what, 0) + 1

    def sweep(self) -> None:
        """Close the connections without progress. To be called every second or so."""
        now = time.monotonic()
        for connection in list(self._all):
            unsent = connection.unsent()
            if not unsent:
                self._stalled.pop(connection, None)
                continue
            least, since = self._stalled.get(connection, (unsent + 1, now))
            if unsent < least:
                since = now
            elif now - since >= self._write_seconds:
                self.count("unread")
                self._close(connection)
                continue
            self._stalled[connection] = (unsent, since)
        if self._counts and now >= self._log_at:
            self._log_at = now + _LOG_SECONDS
            _log.warning("Connections were closed or refused", **self._counts, open=len(self._all))
            self._counts.clear()

    def _make_room(self) -> bool:
        for candidates in (self._idle, self._unread):
            oldest = next(iter(candidates), None)
            if oldest is not None:
                self.count("for_room")
                self._close(oldest)
                return True
        return False

    def _close(self, connection: Connection) -> None:
        # At once, not when the event loop has closed it: the next in the same turn of the loop needs another one.
        self.closed(connection)
        connection.abort()
