"""The budget of the whole agent, or of one of its clients or tenants: tokens and cost per day or month (UTC)."""

import asyncio
import itertools
import math
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

import structlog

from agent_service.agent.messages import Usage
from agent_service.limits.terms import Terms
from agent_service.state.redis import Redis
from agent_service.state.redis_errors import StateUnavailableError
from agent_service.state.script import Script

_log = structlog.get_logger(__name__)

_SPEND = Script(__package__, "spend")

# Redis counts in integers, so money is in billionths. Its integers hold an amount of about nine thousand million.
_PARTS = 10**9

# For users who look up a period after its end.
_KEPT = timedelta(days=7)

# Interval of the retries to report usage while Redis is down.
_REPORT_RETRY_SECONDS = 1.0

# How long Redis remembers the last batch of a process, so as not to count it twice. Once Redis answers, a process
# retries within seconds; a day covers a Redis that was stopped with all its data.
_REMEMBERED_SECONDS = 86_400


class Spent(NamedTuple):
    """Tokens, and cost in billionths of the currency."""

    tokens: int = 0
    cost: int = 0

    @property
    def money(self) -> float:
        """The cost in units of the currency."""
        return self.cost / _PARTS

    def and_also(self, more: "Spent") -> "Spent":
        """Return the sum."""
        return Spent(self.tokens + more.tokens, self.cost + more.cost)

    def at_least(self, least: "Spent") -> "Spent":
        """Return the maximum of each number."""
        return Spent(max(self.tokens, least.tokens), max(self.cost, least.cost))


_NOTHING = Spent()


@dataclass(frozen=True, slots=True)
class Account:
    """The usage in a period, which is named `2026-11-23` or `2026-11`. If not `known`, Redis could not be reached yet,
    and `spent` is the usage of this process only."""

    period: str
    spent: Spent
    known: bool


class UnknownError(StateUnavailableError):
    """The usage of all processes is not known."""

    def __init__(self, period: str) -> None:
        super().__init__(detail=f"The usage of the budget of {period} is not known: Redis could not be reached yet.")


class _Page:
    """The usage in one period, as this process knows it.

    Usage is reported to Redis in numbered batches. A batch without a reply may or may not have been counted: it is
    resent unchanged with its number, so that Redis counts it once. Later usage goes into the next batch.
    """

    def __init__(self, forget_at: int, numbers: Iterator[int]) -> None:
        self.received: Spent | None = None
        self._numbers = numbers
        self._forget_at = forget_at
        self._number = 0
        self._batch = self._rest = _NOTHING

    @property
    def unreported(self) -> Spent:
        """The usage that Redis may not have counted."""
        return self._batch.and_also(self._rest)

    def add(self, spent: Spent) -> None:
        """Add usage of this process."""
        self._rest = self._rest.and_also(spent)

    async def report(self, redis: Redis, keys: tuple[str, ...], account: str) -> None:
        """Report a batch, and receive the usage of all processes. Concurrent calls are allowed.

        `account` is the name in the set of accounts, which is the third of the keys, if there is one.

        Raises:
            StateUnavailableError: if the batch must be reported again.
        """
        if not any(self._batch) and any(self._rest):
            self._number = next(self._numbers)
            self._batch, self._rest = self._rest, _NOTHING
        number, least = self._number, self.received or _NOTHING
        arguments = (number, *self._batch, *least, self._forget_at, _REMEMBERED_SECONDS, account)
        used = Spent(*map(int, await redis.run(_SPEND, keys, *arguments)))
        if self._number == number:
            self._batch = _NOTHING
        # Replies arrive in any order, and usage never decreases.
        self.received = used.at_least(self.received or _NOTHING)


class Budget:
    """The usage of all replicas, in Redis. While Redis is down, each process adds to the last total it received."""

    def __init__(
        self,
        redis: Redis,
        terms: Terms,
        *,
        account: str = "",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Set up a budget.

        Args:
            redis: the state.
            terms: the limits.
            account: whose usage is counted, without limits too: `client:<id>` or `tenant:<id>`; empty for the agent's.
            now: returns the time.
        """
        self.terms = terms
        self._account = account
        self._redis = redis
        self._now = now
        self._process = secrets.token_hex(8)
        # Shared by all pages, because a page may be recreated when the clock is set back.
        self._numbers = itertools.count(1)
        # By the period's name: the current period, and earlier ones with unreported usage.
        self._pages: dict[str, _Page] = {}
        self._reporting: asyncio.Task[None] | None = None
        self._warned_of = ""

    @property
    def stops(self) -> bool:
        """Whether there is a budget, and the agent stops when it is used up."""
        return self.terms.on and self.terms.stops

    def charge(self, usage: Usage) -> None:
        """Charge the usage of a turn to the budget. Return at once: usage is reported in batches in the background."""
        if not (self.terms.on or self._account):
            return
        cost = math.ceil(self.terms.prices_of(usage).of(usage) * _PARTS)
        self._page()[1].add(Spent(usage.total, cost))
        if self._reporting is None and self.has_unreported:
            self._reporting = asyncio.get_running_loop().create_task(self._report_all())

    def account(self) -> Account:
        """Return the known usage in the current period."""
        period, page = self._page()
        return Account(period, (page.received or _NOTHING).and_also(page.unreported), known=page.received is not None)

    async def used(self) -> Account:
        """Report to Redis, and return the usage in the current period."""
        await self._report()
        return self.account()

    def share(self, account: Account) -> float:
        """Return the used share of the budget: 1 is all of it, and it may exceed 1."""
        spent, terms = account.spent, self.terms
        of_tokens = spent.tokens / terms.tokens if terms.tokens else 0.0
        of_cost = spent.cost / float(terms.cost * _PARTS) if terms.cost else 0.0
        return max(of_tokens, of_cost)

    async def wait(self) -> float:
        """Return the seconds until the agent may use more; 0 if it may now."""
        if not self.stops or self.share(await self.used()) < 1:
            return 0.0
        now = self._now()
        return max(0.001, (_end(self.terms.period, now) - now).total_seconds())

    async def close(self) -> None:
        """Report the remaining usage."""
        if self._reporting is not None:
            self._reporting.cancel()
            await asyncio.gather(self._reporting, return_exceptions=True)
        if self.has_unreported:
            await self._report()

    def _page(self) -> tuple[str, _Page]:
        """Return the name and the page of the current period."""
        now = self._now()
        name = _name(self.terms.period, now)
        if name not in self._pages:
            self._pages[name] = _Page(int((_end(self.terms.period, now) + _KEPT).timestamp()), self._numbers)
        return name, self._pages[name]

    @property
    def has_unreported(self) -> bool:
        """Whether there is usage that Redis may not have counted."""
        return any(any(page.unreported) for page in self._pages.values())

    async def _report_all(self) -> None:
        try:
            while self.has_unreported:
                if not await self._report():
                    await asyncio.sleep(_REPORT_RETRY_SECONDS)
        finally:
            self._reporting = None

    async def _report(self) -> bool:
        """Report the usage of this process and receive that of all; return whether that succeeded."""
        current, _ = self._page()
        try:
            for period, page in list(self._pages.items()):
                await page.report(self._redis, self._keys(period), self._account)
                if period != current and not any(page.unreported):
                    self._pages.pop(period, None)
        except StateUnavailableError:
            return False
        finally:
            self._warn()
        return True

    def _keys(self, period: str) -> tuple[str, ...]:
        """Return the keys of `spend.lua`."""
        key = self._redis.key
        if not self._account:
            return key("budget", period), key("budget", period, self._process)
        account = key("budget", self._account, period)
        return account, f"{account}:{self._process}", key("budget", "accounts", period)

    def _warn(self) -> None:
        account = self.account()
        if self.share(account) >= 1 and self._warned_of != account.period:
            self._warned_of = account.period
            of = {"of": self._account} if self._account else {}
            _log.warning("Budget is used up", period=account.period, stops=self.terms.stops, **of)


def _name(period: Literal["day", "month"], now: datetime) -> str:
    return now.strftime("%Y-%m-%d" if period == "day" else "%Y-%m")


def _end(period: Literal["day", "month"], now: datetime) -> datetime:
    """Return the first moment after the period."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        return midnight + timedelta(days=1)
    return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
