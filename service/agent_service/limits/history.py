"""The usage of each client by day, for chargeback. Budgets have accounts of their own, which are kept for days only."""

import asyncio
import itertools
import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, fields
from datetime import UTC, date, datetime, timedelta

from agent_service.agent.messages import Usage
from agent_service.auth.identity import ANYONE
from agent_service.limits.terms import Prices
from agent_service.state.redis import Redis
from agent_service.state.redis_errors import StateUnavailableError
from agent_service.state.script import Script

_RECORD = Script(__package__, "record")

OTHERS = "other"
"""Who has the usage of clients beyond the bound. No key can have this name, nor can a client with a token."""

# A day with this many clients takes about 150 KB in Redis. Anyone whom an issuer of tokens knows is a client.
MOST_CLIENTS = 1000

# Of a request that covers several days: the answer has about 300 bytes for each.
MOST_ROWS = 10_000

# Usage is reported in batches with this interval, also while Redis is down.
_REPORT_SECONDS = 1.0

# Money in billionths, as in a budget.
_PARTS = 10**9


@dataclass(slots=True)
class Used:
    """What a client has used: turns, tokens by kind, and cost in billionths of the currency.

    `input` are the tokens sent to the model that neither came from its cache nor were written to it.
    """

    requests: int = 0
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cost: int = 0

    @property
    def money(self) -> float:
        """The cost in units of the currency."""
        return self.cost / _PARTS

    def add(self, other: "Used") -> None:
        """Add what another one has used."""
        for each in _NUMBERS:
            setattr(self, each, getattr(self, each) + getattr(other, each))


_NUMBERS = tuple(each.name for each in fields(Used))


class History:
    """The usage of clients by day (UTC), of all processes.

    It is counted in Redis, in numbered batches: one whose reply was lost is sent again unchanged, and counted once.
    """

    def __init__(
        self,
        redis: Redis,
        prices: Prices,
        *,
        days: int,
        of_fallbacks: Mapping[str, Prices] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Set up the history, which is kept for a number of days. Fallbacks may have prices of their own, by name."""
        self.priced = any(astuple(prices))
        self._redis = redis
        self._prices = prices
        self._of_fallbacks = of_fallbacks or {}
        self._days = days
        self._now = now
        self._process = secrets.token_hex(8)
        self._numbers = itertools.count(1)
        self._unsent: dict[date, dict[str, Used]] = {}
        # The batch whose reply is missing: its day, its number and its rows.
        self._batch: tuple[date, int, dict[str, Used]] | None = None
        self._lock = asyncio.Lock()
        self._reporting: asyncio.Task[None] | None = None

    @property
    def first_day(self) -> date:
        """The earliest day that is kept."""
        return self.today - timedelta(days=self._days - 1)

    @property
    def today(self) -> date:
        """The current day."""
        return self._now().date()

    def charge(self, client: str | None, usage: Usage) -> None:
        """Count the tokens of a client, by its id; None if it is unknown. Return at once."""
        if not usage.total:
            return
        prices = self._of_fallbacks.get(usage.provider or "", self._prices)
        cost = math.ceil(prices.of(usage) * _PARTS)
        cached = (usage.cache_read_tokens, usage.cache_write_tokens)
        self._add(client, Used(0, usage.uncached_tokens, usage.output_tokens, *cached, cost))

    def count(self, client: str | None) -> None:
        """Count a turn of a client. Return at once."""
        self._add(client, Used(requests=1))

    async def read(self, since: date, until: date) -> dict[str, Used]:
        """Return the usage of each client, by its id, from one day to another, both included.

        Raises:
            StateUnavailableError: when Redis is unavailable.
        """
        await self._report()
        since = max(since, self.first_day)
        days = [since + timedelta(days=each) for each in range((until - since).days + 1)]
        total: dict[str, Used] = {}
        for found in await asyncio.gather(*(self._redis.read("HGETALL", self._key(day)) for day in days)):
            for client, numbers in (found or {}).items():
                if client:
                    _of(total, client.decode(), MOST_ROWS).add(Used(*map(int, numbers.split())))
        return total

    async def store(self) -> str:
        """Return an id of the state that the history is part of: pods without a shared Redis have one each.

        Raises:
            StateUnavailableError: when Redis is unavailable.
        """
        key = self._redis.key("budget", "store")
        await self._redis.call("SET", key, secrets.token_hex(16), "NX")
        found: bytes | None = await self._redis.read("GET", key)
        return (found or b"").decode()

    async def close(self) -> None:
        """Report the remaining usage."""
        if self._reporting is not None:
            self._reporting.cancel()
            await asyncio.gather(self._reporting, return_exceptions=True)
        await self._report()

    def _add(self, client: str | None, used: Used) -> None:
        clients = self._unsent.setdefault(self.today, {})
        _of(clients, client or ANYONE, MOST_CLIENTS).add(used)
        if self._reporting is None:
            self._reporting = asyncio.get_running_loop().create_task(self._report_all())

    async def _report_all(self) -> None:
        try:
            while self._unsent or self._batch is not None:
                await asyncio.sleep(_REPORT_SECONDS)
                await self._report()
        finally:
            self._reporting = None

    async def _report(self) -> None:
        """Report all usage of this process, unless Redis is down."""
        async with self._lock:
            while self._batch is not None or self._unsent:
                if self._batch is None:
                    day = next(iter(self._unsent))
                    self._batch = day, next(self._numbers), self._unsent.pop(day)
                try:
                    await self._send(*self._batch)
                except StateUnavailableError:
                    return
                self._batch = None

    async def _send(self, day: date, number: int, rows: dict[str, Used]) -> None:
        kept_until = datetime.combine(day, datetime.min.time(), UTC) + timedelta(days=self._days + 1)
        keys = (self._key(day), f"{self._key(day)}:{self._process}")
        numbers = itertools.chain.from_iterable((client, *astuple(used)) for client, used in rows.items())
        bounds = (MOST_CLIENTS, OTHERS, len(_NUMBERS))
        await self._redis.run(_RECORD, keys, number, int(kept_until.timestamp()), *bounds, *numbers)

    def _key(self, day: date) -> str:
        return self._redis.key("budget", "days", day.isoformat())


def _of(clients: dict[str, Used], client: str, most: int) -> Used:
    """Return the entry of a client; beyond the bound, that of all others."""
    if client not in clients and len(clients) >= most:
        client = OTHERS
    return clients.setdefault(client, Used())
