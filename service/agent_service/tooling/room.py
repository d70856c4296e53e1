"""How much memory the answers of all calls in progress may take together.

Each answer has its own bound, but a model, or the clients of many turns, make many calls at once.
"""

from collections.abc import Iterator
from contextlib import contextmanager

# One answer of the largest size that can be configured (four times 16 MiB) and some more. A pod has 512 MiB.
MOST_BYTES = 96 * 2**20


class Room:
    """Counts the bytes of the answers that are held."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._free = most_bytes

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """Yield the share of one call, which is free again at the end of the context."""
        share = Share(self)
        try:
            yield share
        finally:
            share.close()

    def take(self, count: int) -> bool:
        """Take so many bytes, or give them back if negative. Return whether there was room."""
        if count > self._free:
            return False
        self._free -= count
        return True


class Share:
    """What one call holds."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._held = 0
        self._is_closed = False

    def close(self) -> None:
        """Hold nothing more. What still arrives, after the call has ended, has no room."""
        self.hold(0)
        self._is_closed = True

    def hold(self, count: int) -> bool:
        """Hold this many bytes from now on. Return whether there is room; without, nothing changes."""
        if self._is_closed or not self._room.take(count - self._held):
            return False
        self._held = count
        return True
