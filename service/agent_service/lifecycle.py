"""Where the process stands between its start and its end, and how long the end takes."""

# A turn may last as long as the timeout of requests or of streams; its last bytes need a moment more. The pod's grace
# period has to be longer than the longer of the two, this, and the preStop sleep together.
DRAIN_MARGIN_SECONDS = 5.0

# What is left after that is cut. By then only connections remain whose client does not read.
CUT_SECONDS = 2


class StartError(Exception):
    """The service cannot start. The message is one line that says why and what to do."""


class Lifecycle:
    """Started or not, draining or not, and how many requests and background tasks are in
    flight. One per process; touched by its one event loop.

    `begin_draining` is also called from the signal handler, which Python runs between two steps of the same thread.
    """

    def __init__(self) -> None:
        self.started = False
        self.draining = False
        self.in_flight = 0
        self.tasks = 0

    def begin_draining(self) -> None:
        """Take no new work from now on."""
        self.draining = True
