"""How many tokens, and how much money, the whole agent may use in a day or a month (UTC)."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal, NamedTuple

import structlog

from agent_service.agent.provider import Usage
from agent_service.state.redis import Redis, Script, StateUnavailableError

_log = structlog.get_logger(__name__)

_SPEND = Script("spend")

# Redis counts in whole numbers: money in billionths, of which it takes some nine thousand million.
_PARTS = 10**9
_TOKENS_OF_A_PRICE = 10**6

# For people who look a period up after its end.
_KEPT = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Prices:
    """What a million tokens cost: of the prompt, of the answer, and of a prompt written to or read from the cache."""

    input: Decimal = Decimal(0)
    output: Decimal = Decimal(0)
    cache_write: Decimal = Decimal(0)
    cache_read: Decimal = Decimal(0)

    def of(self, usage: Usage) -> Decimal:
        """Give the price of a turn."""
        plain = usage.input_tokens - usage.cache_write_tokens - usage.cache_read_tokens
        return (
            plain * self.input
            + usage.output_tokens * self.output
            + usage.cache_write_tokens * self.cache_write
            + usage.cache_read_tokens * self.cache_read
        ) / _TOKENS_OF_A_PRICE


@dataclass(frozen=True, slots=True)
class Terms:
    """What may be used: tokens and money (0: any amount) of a `period`, and whether the agent `stops` at its end."""

    period: Literal["day", "month"]
    tokens: int
    cost: Decimal
    stops: bool
    prices: Prices

    @property
    def on(self) -> bool:
        """Whether there is any bound."""
        return bool(self.tokens or self.cost)


class Spent(NamedTuple):
    """Tokens, and billionths of money."""

    tokens: int = 0
    cost: int = 0

    @property
    def money(self) -> float:
        """The cost, in whole money."""
        return self.cost / _PARTS

    def and_also(self, more: "Spent") -> "Spent":
        """Give the sum."""
        return Spent(self.tokens + more.tokens, self.cost + more.cost)


_NOTHING = Spent()


@dataclass(frozen=True, slots=True)
class Account:
    """What was used of a period, by its name: `2026-11-23` or `2026-11`."""

    period: str
    spent: Spent = _NOTHING


class Budget:
    """What all replicas together used, in Redis. While it is away each process adds to what it heard last."""

    def __init__(self, redis: Redis, terms: Terms, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.terms = terms
        self._redis = redis
        self._now = now
        self._heard = Account("")
        self._untold = _NOTHING
        self._telling: asyncio.Task[None] | None = None
        self._warned_of = ""

    @property
    def stops(self) -> bool:
        """Whether there is a budget at whose end the agent stops."""
        return self.terms.on and self.terms.stops

    def charge(self, usage: Usage) -> None:
        """Take what a turn used off the budget. Does not wait: what comes meanwhile is told together."""
        if not self.terms.on:
            return
        cost = math.ceil(self.terms.prices.of(usage) * _PARTS)
        self._untold = self._untold.and_also(Spent(usage.total, cost))
        if self._telling is None:
            self._telling = asyncio.get_running_loop().create_task(self._tell_all())

    async def used(self) -> Account:
        """Give what was used of the period so far."""
        await self._tell()
        return self._account()

    def share(self, account: Account) -> float:
        """Give how much of the budget that is; 1 is all of it, and more can have been used."""
        spent, terms = account.spent, self.terms
        of_tokens = spent.tokens / terms.tokens if terms.tokens else 0.0
        of_cost = spent.cost / float(terms.cost * _PARTS) if terms.cost else 0.0
        return max(of_tokens, of_cost)

    async def wait(self) -> float:
        """Give the seconds until the agent may use more; 0 when it may now."""
        if not self.stops or self.share(await self.used()) < 1:
            return 0.0
        now = self._now()
        return max(0.001, (_end(self.terms.period, now) - now).total_seconds())

    async def close(self) -> None:
        """Tell what is still to be told."""
        if self._telling is not None:
            await self._telling

    async def _tell_all(self) -> None:
        try:
            while any(self._untold):
                if not await self._tell():
                    return
        finally:
            self._telling = None

    async def _tell(self) -> bool:
        """Tell what was used here and hear what was used everywhere; whether that worked."""
        telling, self._untold = self._untold, _NOTHING
        now = self._now()
        period = _name(self.terms.period, now)
        forget_at = int((_end(self.terms.period, now) + _KEPT).timestamp())
        try:
            tokens, cost = await self._redis.run(_SPEND, [self._redis.key("budget", period)], *telling, forget_at)
        except StateUnavailableError:
            self._untold = self._untold.and_also(telling)
            return False
        self._heard = Account(period, Spent(tokens, cost))
        self._warn(self._account())
        return True

    def _account(self) -> Account:
        period = _name(self.terms.period, self._now())
        heard = self._heard if self._heard.period == period else Account(period)
        return replace(heard, spent=heard.spent.and_also(self._untold))

    def _warn(self, account: Account) -> None:
        if self.share(account) >= 1 and self._warned_of != account.period:
            self._warned_of = account.period
            _log.warning("Budget is used up", period=account.period, stops=self.terms.stops)


def _name(period: Literal["day", "month"], now: datetime) -> str:
    return now.strftime("%Y-%m-%d" if period == "day" else "%Y-%m")


def _end(period: Literal["day", "month"], now: datetime) -> datetime:
    """Give the first moment after the period."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        return midnight + timedelta(days=1)
    return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
