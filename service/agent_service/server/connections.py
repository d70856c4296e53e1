"""The open connections of one process: which one to close for a new one, and whose client does not read."""

import time
from typing import Protocol

import structlog

_log = structlog.get_logger(__name__)

# At most one summary line of closed and refused connections in this period: an attack must not fill the log.
_LOG_SECONDS = 60.0


class Connection(Protocol):
    """A connection as this module sees it."""

    def unsent(self) -> int:
        """Return the number of answer bytes that the kernel has not accepted yet, because the client does not read."""

    def abort(self) -> None:
        """Close immediately. Unsent bytes are lost."""


class Connections:
    """Limits the open connections of a process, and how long one may go without progress.

    A new connection is always accepted, because it may be a probe. At the limit, the connection that has been idle
    the longest is closed for it. A request that is being answered is left alone while its client reads.
    """

    def __init__(self, *, most: int, write_seconds: float) -> None:
        """Take the maximum number of connections, and the seconds without write progress after which one is closed."""
        self._most = most
        self._write_seconds = write_seconds
        # Dictionaries serve as ordered sets: the first entry is the oldest.
        self._all: dict[Connection, None] = {}
        self._idle: dict[Connection, None] = {}
        self._unread: dict[Connection, None] = {}
        # For connections with unsent bytes: the number of bytes, and the time since which it has not fallen.
        self._stalled: dict[Connection, tuple[int, float]] = {}
        self._counts: dict[str, int] = {}
        self._log_at = 0.0

    def opened(self, connection: Connection) -> None:
        """Add a connection, and make room for it."""
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
        """Record that a request of this connection is being answered."""
        self._idle.pop(connection, None)

    def idle(self, connection: Connection) -> None:
        """Record that the answer on this connection is written."""
        self._unread.pop(connection, None)
        if connection in self._all:
            self._idle[connection] = None

    def paused(self, connection: Connection) -> None:
        """Record that the client reads more slowly than the answer is produced."""
        self._unread[connection] = None

    def resumed(self, connection: Connection) -> None:
        """Record that the client has read."""
        self._unread.pop(connection, None)
        self._stalled.pop(connection, None)

    def count(self, what: str) -> None:
        """Count an event for the summary in the log."""
        self._counts[what] = self._counts.get(what, 0) + 1

    def sweep(self) -> None:
        """Close the connections without progress. Call this about once a second."""
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
        # Now, not when the event loop has closed it: a further connection in the same loop iteration must not pick it.
        self.closed(connection)
        connection.abort()
