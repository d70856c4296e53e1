"""Tokens that are exchanged for something else and renewed before they expire, also while their issuer is down."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field

import structlog

from agent_service.agent.errors import CredentialsRefusedError, ModelError
from agent_service.telemetry.redact import for_log

_log = structlog.get_logger(__name__)

# A token is renewed in the background from here on, so that an outage of the issuer for the rest of its life is not
# noticed. Tokens of Google and Azure live for an hour.
_EARLY_SECONDS = 600.0
# A shorter-lived token is renewed when this share of its life is left.
_EARLY_SHARE = 0.2
# With less left, a call could arrive when the token has expired.
_LEAST_SECONDS = 30.0

_PAUSE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Token:
    """A `Credential` that lives for a time. Its end is a value of `time.monotonic`."""

    value: str = field(repr=False)
    origin: Hashable = field(repr=False)
    renewed_from: float
    ends: float

    @property
    def secrets(self) -> tuple[str, ...]:
        """The token."""
        return (self.value,)


class RenewedTokens:
    """A `Source` of tokens."""

    def __init__(
        self,
        origin: Callable[[], Hashable],
        exchange: Callable[[], Awaitable[tuple[str, float]]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set up the exchange.

        Args:
            origin: returns what is exchanged. When it changes, the token is replaced.
            exchange: returns a new token and the seconds that it lives. Its errors are those of `agent.errors`.
            clock: the time in seconds.
        """
        self.origin = origin
        self._exchange = exchange
        self._clock = clock
        self._token: Token | None = None
        self._renewing: tuple[Hashable, asyncio.Task[Token]] | None = None
        self._next_attempt = 0.0

    async def current(self) -> Token:
        """Return the token to use now. Calls that need a new one share one exchange.

        Raises:
            ModelError: when there is no token that is still valid, and the exchange failed.
        """
        origin, now, token = self.origin(), self._clock(), self._token
        if token is None or token.origin != origin or token.ends - now < _LEAST_SECONDS:
            # Shielded, because the call that asks first may be cancelled before the others.
            return await asyncio.shield(self._renewal(origin))
        if now >= max(token.renewed_from, self._next_attempt):
            self._renewal(origin)
        return token

    def _renewal(self, origin: Hashable) -> asyncio.Task[Token]:
        if self._renewing is not None and self._renewing[0] == origin and not self._renewing[1].done():
            return self._renewing[1]
        task = asyncio.create_task(self._renew(origin))
        task.add_done_callback(self._note)
        self._renewing = (origin, task)
        return task

    async def _renew(self, origin: Hashable) -> Token:
        self._next_attempt = self._clock() + _PAUSE_SECONDS
        value, seconds = await self._exchange()
        now = self._clock()
        early = min(_EARLY_SECONDS, seconds * _EARLY_SHARE)
        self._token = Token(value, origin, now + seconds - early, now + seconds)
        return self._token

    def _note(self, task: asyncio.Task[Token]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            return
        left = 0.0 if self._token is None else max(0.0, self._token.ends - self._clock())
        upstream = error.upstream if isinstance(error, ModelError) else None
        _log.warning(
            "Token could not be renewed",
            reason=error.kind if isinstance(error, ModelError) else type(error).__name__,
            seconds_left=round(left),
            refused=isinstance(error, CredentialsRefusedError),
            upstream=for_log(upstream or ""),
        )
