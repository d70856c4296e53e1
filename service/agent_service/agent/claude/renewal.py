"""Credentials that are exchanged for something else and renewed before they expire, also while their issuer is down."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import structlog

from agent_service.agent.claude.credentials import Credential
from agent_service.agent.errors import CredentialsRefusedError, ModelError
from agent_service.telemetry.redact import for_log

_log = structlog.get_logger(__name__)

# A credential is renewed in the background from here on, so that an outage of the issuer for the rest of its life is
# not noticed. Those of clouds live for an hour.
_EARLY_SECONDS = 600.0
# A shorter-lived one is renewed when this share of its life is left.
_EARLY_SHARE = 0.2
# With less left, a call could arrive when the credential has expired.
_LEAST_SECONDS = 30.0

# Between the attempts at a failing issuer, doubled with each up to the last of these.
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 10.0

C = TypeVar("C", bound=Credential)

Observe = Callable[[str, float], None]
"""Is called with the result of an exchange (`ok`, `refused` or `failed`), and the seconds that the credential lives."""


def unobserved(result: str, seconds: float) -> None:
    """Ignore the outcome of an exchange."""


@dataclass(frozen=True, slots=True)
class _Held(Generic[C]):
    """A credential, with times of the clock."""

    credential: C = field(repr=False)
    origin: Hashable = field(repr=False)
    renewed_from: float
    ends: float


class Renewed(Generic[C]):
    """A `Source` of credentials that live for a time."""

    def __init__(
        self,
        origin: Callable[[], Hashable],
        exchange: Callable[[Hashable], Awaitable[tuple[C, float]]],
        *,
        observe: Observe = unobserved,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set up the exchange.

        Args:
            origin: returns what is exchanged. When it changes, the credential is replaced.
            exchange: returns a new credential for an origin and the seconds that it lives. Its errors are those of
                `agent.errors`.
            observe: is called with the result of each exchange.
            clock: the time in seconds.
        """
        self.origin = origin
        self._exchange = exchange
        self._observe = observe
        self._clock = clock
        self._held: _Held[C] | None = None
        self._renewing: tuple[Hashable, asyncio.Task[C]] | None = None
        self._failed: tuple[Hashable, ModelError] | None = None
        self._pause = _FIRST_PAUSE_SECONDS
        self._next_attempt = 0.0

    async def current(self) -> C:
        """Return the credential to use now. Calls that need a new one share one exchange.

        Raises:
            ModelError: when there is no credential that is still valid, and the exchange failed, now or moments ago.
        """
        origin, now, held = self.origin(), self._clock(), self._held
        if held is None or held.origin != origin or held.ends - now < _LEAST_SECONDS:
            if self._failed is not None and self._failed[0] == origin and now < self._next_attempt:
                # An issuer that is down gets one request in this time, and not one for each call.
                raise self._failed[1].with_traceback(None)
            # Shielded, because the call that asks first may be cancelled before the others.
            return await asyncio.shield(self._renewal(origin))
        if now >= max(held.renewed_from, self._next_attempt):
            self._renewal(origin)
        return held.credential

    def discard(self, credential: Credential) -> None:
        """Renew a credential that was not accepted, in the background of the next call."""
        held = self._held
        if held is not None and held.credential is credential:
            self._held = _Held(held.credential, held.origin, 0.0, held.ends)

    def _renewal(self, origin: Hashable) -> asyncio.Task[C]:
        if self._renewing is not None and self._renewing[0] == origin and not self._renewing[1].done():
            return self._renewing[1]
        task = asyncio.create_task(self._renew(origin))
        task.add_done_callback(self._note)
        self._renewing = (origin, task)
        return task

    async def _renew(self, origin: Hashable) -> C:
        try:
            credential, seconds = await self._exchange(origin)
        except ModelError as error:
            self._failed = (origin, error)
            # Randomized by up to half, so that not all pods ask an issuer that is up again at once.
            self._next_attempt = self._clock() + self._pause * random.uniform(0.5, 1)  # noqa: S311
            self._pause = min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
            self._observe("refused" if isinstance(error, CredentialsRefusedError) else "failed", 0.0)
            raise
        now = self._clock()
        early = min(_EARLY_SECONDS, seconds * _EARLY_SHARE)
        self._held = _Held(credential, origin, now + seconds - early, now + seconds)
        self._failed, self._pause = None, _FIRST_PAUSE_SECONDS
        # A credential that is not accepted is not replaced more often.
        self._next_attempt = now + _LONGEST_PAUSE_SECONDS
        self._observe("ok", seconds)
        return credential

    def _note(self, task: asyncio.Task[C]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            return
        left = 0.0 if self._held is None else max(0.0, self._held.ends - self._clock())
        upstream = error.upstream if isinstance(error, ModelError) else None
        _log.warning(
            "Token could not be renewed",
            reason=error.kind if isinstance(error, ModelError) else type(error).__name__,
            seconds_left=round(left),
            refused=isinstance(error, CredentialsRefusedError),
            upstream=for_log(upstream or ""),
        )
