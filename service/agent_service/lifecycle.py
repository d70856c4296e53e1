"""Where the process stands between its start and its end."""


class Lifecycle:
    """Started or not, draining or not, and how much work is in flight. One per process; touched by its one event loop.

    `begin_draining` is also called from the signal handler, which Python runs between two steps of the same thread.
    """

    def __init__(self) -> None:
        self.started = False
        self.draining = False
        self.in_flight = 0

    def begin_draining(self) -> None:
        """Take no new work from now on."""
        self.draining = True
