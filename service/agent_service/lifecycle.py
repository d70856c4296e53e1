"""The state of the process between its start and its end, and how long the end takes."""

import asyncio
from collections.abc import Collection
from typing import Any

# A turn may last as long as the timeout of requests or of streams; its last bytes need a moment longer. The pod's grace
# period must be longer than the sum of the longer timeout, this margin and the preStop sleep.
DRAIN_MARGIN_SECONDS = 5.0

# Seconds to cut what is left after that: only connections whose client does not read.
CUT_SECONDS = 2


# A task that is cancelled while redis-py connects can go on as if it was not.
_CANCEL_AGAIN_SECONDS = 0.1


async def end_tasks(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait for their end, whatever it is.

    A library may swallow a cancellation, so it is repeated until they end. They must need no time to end.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN_SECONDS)
    await asyncio.gather(*tasks, return_exceptions=True)


class StartError(Exception):
    """The service cannot start. The message is one line with the reason and what to do."""


class Lifecycle:
    """Whether the process is started and draining, and the number of requests, background tasks and calls in flight.

    `calls` are those of the runtime to the gateway.

    There is one per process, and only its event loop uses it. `begin_draining` is also called from the signal handler,
    which Python runs between two steps of the same thread.
    """

    def __init__(self) -> None:
        self.started = False
        self.draining = False
        self.in_flight = 0
        self.tasks = 0
        self.calls = 0

    def begin_draining(self) -> None:
        """Accept no new work from now on."""
        self.draining = True
