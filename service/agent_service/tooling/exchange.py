"""What one call sends and receives over HTTP: its bounds, and what is known about its outcome.

The SDK answers a call with an error that does not show whether the request reached the server. The transport records
that here. The record travels in a context variable, because the SDK sends each message in its sender's context.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum, auto

from agent_service.tooling.room import Share


class Failure(Enum):
    """Why a request has no usable answer."""

    UNREACHABLE = auto()
    ADDRESS_REFUSED = auto()
    CREDENTIALS = auto()
    UNAUTHORIZED = auto()
    SESSION_LOST = auto()
    REDIRECTED = auto()
    REFUSED = auto()
    ANSWERED_WITH_ERROR = auto()
    TOO_LARGE = auto()
    NO_ROOM = auto()
    UNREADABLE = auto()
    FAILED = auto()
    LOST = auto()
    TIMED_OUT = auto()


NOT_RUN = frozenset(
    {
        Failure.UNREACHABLE,
        Failure.ADDRESS_REFUSED,
        Failure.CREDENTIALS,
        Failure.UNAUTHORIZED,
        Failure.SESSION_LOST,
        Failure.REDIRECTED,
        Failure.REFUSED,
    }
)
"""Failures after which a call certainly did not run."""


@dataclass
class Exchange:
    """The bounds of a request, and what became of it.

    `deadline` is a time of the event loop; None is no deadline. `most_bytes` bounds an answer that is not a stream of
    events. `caller_token` is the credential to forward. `is_call` is whether it is the call of a tool. `detail` is
    for the log, never for a client or a model, and `cause` is the exception behind a failure.
    """

    deadline: float | None
    most_bytes: int
    caller_token: str | None = field(default=None, repr=False)
    share: Share | None = field(default=None, repr=False)
    aborted: bool = False
    sent: bool = False
    failure: Failure | None = None
    status: int | None = None
    detail: str | None = None
    cause: Exception | None = field(default=None, repr=False)
    _running: set[asyncio.Timeout] = field(default_factory=set, repr=False)

    @property
    def is_call(self) -> bool:
        """Whether it is the call of a tool, whose `share` counts what it holds in memory."""
        return self.share is not None

    def hold(self, count: int) -> bool:
        """Return whether so many bytes of the answer may be in memory; record it as the failure if not."""
        if self.share is None or self.share.hold(count):
            return True
        self.fail(Failure.NO_ROOM)
        return False

    @asynccontextmanager
    async def bounded(self) -> AsyncIterator[None]:
        """Raise TimeoutError in the context at the deadline, or when the exchange is aborted."""
        async with asyncio.timeout_at(self.deadline) as timeout:
            self._running.add(timeout)
            try:
                yield
            finally:
                self._running.discard(timeout)

    def abort(self) -> None:
        """End what is still in progress: its answer is no longer wanted."""
        self.aborted = True
        self.deadline = now = asyncio.get_running_loop().time()
        for timeout in self._running:
            # An expired one cannot be changed. After a pause of the event loop, this one and that of the call have.
            if not timeout.expired():
                timeout.reschedule(now)

    def fail(self, failure: Failure, detail: str | None = None, cause: Exception | None = None) -> None:
        """Record why there is no answer.

        Of a call, the first reason counts: later ones are its consequences. A handshake consists of several requests,
        of which earlier ones may fail as expected.
        """
        if self.failure is None or not self.is_call:
            self.failure, self.detail, self.cause = failure, detail, cause


current: ContextVar[Exchange | None] = ContextVar("exchange", default=None)
"""The exchange of the call in whose context a message is sent."""
