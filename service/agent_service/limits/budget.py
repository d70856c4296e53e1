"""How many tokens, and how much money, the whole agent may use in a day or a month (UTC)."""

import asyncio
import itertools
import math
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal, NamedTuple

import structlog

from agent_service.agent.messages import Usage
from agent_service.state.redis import Redis, Script, StateUnavailableError

_log = structlog.get_logger(__name__)

_SPEND = Script(__package__, "spend")

# Redis counts in whole numbers: money in billionths, of which it takes some nine thousand million.
_PARTS = 10**9
_TOKENS_OF_A_PRICE = 10**6

# For people who look a period up after its end.
_KEPT = timedelta(days=7)

# How often what was used is told to a Redis that is away.
_TELL_AGAIN_SECONDS = 1.0

# For so long Redis knows what a process told last, so as not to count it again. It is told again within seconds of its
# answering; a day is for one that stood still with all its data.
_REMEMBERED_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Prices:
    """What a million tokens cost: of the prompt, of the answer, and of a prompt written to or read from the cache."""

    input: Decimal = Decimal(0)
    output: Decimal = Decimal(0)
    cache_write: Decimal = Decimal(0)
    cache_read: Decimal = Decimal(0)

    def of(self, usage: Usage) -> Decimal:
        """Give the price of a turn."""
        return (
            usage.uncached_tokens * self.input
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

    def at_least(self, least: "Spent") -> "Spent":
        """Give the larger number of each."""
        return Spent(max(self.tokens, least.tokens), max(self.cost, least.cost))


_NOTHING = Spent()


@dataclass(frozen=True, slots=True)
class Account:
    """What was used of a period, by its name: `2026-11-23` or `2026-11`. Not `known` while Redis could not be asked:
    then it is what this process alone used."""

    period: str
    spent: Spent
    known: bool


class UnknownError(StateUnavailableError):
    """What all processes used is not known."""

    def __init__(self, period: str) -> None:
        super().__init__(
            detail=f"It is not known what was used of the budget of {period}: Redis could not be asked yet."
        )


class _Page:
    """A period as this process knows it.

    What was used goes to Redis in numbered batches. One that got no answer may have been counted or not: it is told
    again as it was, with its number, by which Redis counts it once. What is used meanwhile is for the next.
    """

    def __init__(self, forget_at: int, numbers: Iterator[int]) -> None:
        self.heard: Spent | None = None
        self._numbers = numbers
        self._forget_at = forget_at
        self._number = 0
        self._batch = self._rest = _NOTHING

    @property
    def unreported(self) -> Spent:
        """What Redis may not know of."""
        return self._batch.and_also(self._rest)

    def add(self, spent: Spent) -> None:
        """Note what was used."""
        self._rest = self._rest.and_also(spent)

    async def report(self, redis: Redis, keys: tuple[str, str]) -> None:
        """Tell a batch, and hear what was used everywhere. Several may do so at once.

        Raises:
            StateUnavailableError: it has to be told again.
        """
        if not any(self._batch) and any(self._rest):
            self._number = next(self._numbers)
            self._batch, self._rest = self._rest, _NOTHING
        number, least = self._number, self.heard or _NOTHING
        told = (number, *self._batch, *least, self._forget_at, _REMEMBERED_SECONDS)
        heard = Spent(*map(int, await redis.run(_SPEND, keys, *told)))
        if self._number == number:
            self._batch = _NOTHING
        # Answers come in any order, and what was used becomes no less.
        self.heard = heard.at_least(self.heard or _NOTHING)


class Budget:
    """What all replicas together used, in Redis. While it is away each process adds to what it heard last."""

    def __init__(self, redis: Redis, terms: Terms, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.terms = terms
        self._redis = redis
        self._now = now
        self._process = secrets.token_hex(8)
        # Of all pages, since one may be made anew, when the clock is set back.
        self._numbers = itertools.count(1)
        # By the period's name: that of now, and those before of which something is yet to be told.
        self._pages: dict[str, _Page] = {}
        self._reporting: asyncio.Task[None] | None = None
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
        self._page()[1].add(Spent(usage.total, cost))
        if self._reporting is None and self._unreported():
            self._reporting = asyncio.get_running_loop().create_task(self._report_all())

    def account(self) -> Account:
        """Give what is known of the period so far."""
        period, page = self._page()
        return Account(period, (page.heard or _NOTHING).and_also(page.unreported), known=page.heard is not None)

    async def used(self) -> Account:
        """Give what was used of the period so far."""
        await self._report()
        return self.account()

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
        if self._reporting is not None:
            self._reporting.cancel()
            await asyncio.gather(self._reporting, return_exceptions=True)
        if self._unreported():
            await self._report()

    def _page(self) -> tuple[str, _Page]:
        """Give the name and the page of now."""
        now = self._now()
        name = _name(self.terms.period, now)
        if name not in self._pages:
            self._pages[name] = _Page(int((_end(self.terms.period, now) + _KEPT).timestamp()), self._numbers)
        return name, self._pages[name]

    def _unreported(self) -> bool:
        return any(any(page.unreported) for page in self._pages.values())

    async def _report_all(self) -> None:
        try:
            while self._unreported():
                if not await self._report():
                    await asyncio.sleep(_TELL_AGAIN_SECONDS)
        finally:
            self._reporting = None

    async def _report(self) -> bool:
        """Tell what was used here and hear what was used everywhere; whether that worked."""
        current, _ = self._page()
        try:
            for period, page in list(self._pages.items()):
                account = self._redis.key("budget", period)
                await page.report(self._redis, (account, f"{account}:{self._process}"))
                if period != current and not any(page.unreported):
                    self._pages.pop(period, None)
        except StateUnavailableError:
            return False
        finally:
            self._warn()
        return True

    def _warn(self) -> None:
        account = self.account()
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
