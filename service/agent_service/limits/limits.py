"""The limits: requests and tokens per minute, by buckets, and the budgets; of the agent, its clients and tenants."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from agent_service.agent.messages import Usage
from agent_service.auth.identity import ANYONE, tenant_of
from agent_service.limits.budget import Budget
from agent_service.limits.history import History
from agent_service.limits.local import UNIT, LocalBuckets
from agent_service.limits.rates import NO_RATES, Rate, Rates
from agent_service.limits.shares import CLIENT_BUDGET, TENANT_BUDGET, Shares, longest
from agent_service.state.redis import Redis
from agent_service.state.redis_errors import StateUnavailableError
from agent_service.state.script import Script

_LIMIT = Script(__package__, "limit")

# While Redis is down, each process counts by itself. This many buckets take about 4 MB; the least recently used is
# forgotten first.
MOST_CLIENTS = 10_000

_BUDGET = "budget"


class Verdict(NamedTuple):
    """The decision of the limits on one request. Times are whole milliseconds.

    `refused` is None or one of `telemetry.metrics.LIMITS`: `requests` of this client, `tokens` or `budget` of the whole
    agent, or what has the word `client` or `tenant` before it. If several limits refuse, it is the one that refuses for
    longest. `limit` is the number of requests that the client may send a minute (0: any), `left` the number that it has
    left, `reset` the time until it has all of them again, and `wait` the time until the same request would be accepted.
    """

    refused: str | None
    limit: int
    left: int
    reset: int
    wait: int


class Limits:
    """The limits of all replicas together, in Redis; those of this process only while Redis is down.

    A rate is off when it is 0; a budget is off when it has no limit.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        requests_per_minute: int,
        tokens_per_minute: int,
        budget: Budget,
        shares: Shares,
        history: History,
        of_client: Rates = NO_RATES,
        of_tenant: Rates = NO_RATES,
        count: Callable[[Usage, str | None], None] = lambda _usage, _client: None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set up the limits.

        Args:
            redis: the state.
            requests_per_minute: those of each client.
            tokens_per_minute: those of the whole agent.
            budget: the budget of the whole agent.
            shares: the budgets of clients and tenants.
            history: the usage of clients by day.
            of_client: what each client with a key or a token may use; its requests replace those of each client.
            of_tenant: what all clients of a tenant may use.
            count: called with all usage and its client.
            seconds: returns the time while Redis is down.
        """
        self.requests_per_minute = requests_per_minute
        self.tokens_per_minute = tokens_per_minute
        self.budget = budget
        self.shares = shares
        self.history = history
        self.of_client = of_client
        self.of_tenant = of_tenant
        self._count = count
        self._redis = redis
        self._tokens = Rate(self._key("tokens", tokens_per_minute), tokens_per_minute, "tokens")
        self._local = LocalBuckets(MOST_CLIENTS, kept=self._tokens.key)
        self._seconds = seconds
        # Usage that is not charged to the buckets of tokens yet, by their keys.
        self._used: dict[str, Rate] = {}
        self._charging: asyncio.Task[None] | None = None

    @property
    def on(self) -> bool:
        """Whether there is any limit."""
        return bool(self.requests_per_minute or self.tokens_per_minute or self.budget.stops or self.share_limits)

    @property
    def share_limits(self) -> bool:
        """Whether there is any limit of clients with a key or a token, or of tenants."""
        return self.shares.stop or any((*self.of_client, *self.of_tenant))

    async def admit(
        self, client: str, *, takes_tokens: bool, queues: bool = False, owner: str | None = None
    ) -> Verdict:
        """Count one request of `client`, and return whether it may proceed. A refused request is not counted.

        Args:
            client: the client that sent the request.
            takes_tokens: whether the request calls the model, so that the limits of tokens and the budgets apply.
            queues: whether the request is a task, which waits for the limits of tokens and for the budget of the agent,
                but not for that of its client.
            owner: the client to which limits of clients apply; None if it has no key and no token.
        """
        requests = list(self._requests(client, owner))
        if takes_tokens:
            return await self._decide(await self._budget_waits(owner), [*requests, *self._all_tokens(owner)])
        waits = await self.shares.waits(owner) if queues else {}
        return await self._decide(waits, requests)

    async def admit_tokens(self, owner: str | None) -> Verdict:
        """Return whether the agent may call the model for a client now. This counts no request."""
        return await self._decide(await self._budget_waits(owner), [*self._all_tokens(owner)])

    async def admit_task(self, owner: str | None) -> Verdict:
        """Return whether the agent takes a task of a client now, as `admit` does with `queues`; count no request."""
        return await self._decide(await self.shares.waits(owner), [])

    async def admit_share(self, owner: str | None) -> Verdict:
        """Return whether the limits of a client and its tenant let the agent call the model now; count no request."""
        return await self._decide(await self.shares.waits(owner), [*self._share_tokens(owner)])

    async def budget_wait(self, owner: str | None) -> float:
        """Return the seconds until a client may use more of its budget and that of the agent; 0 if it may now."""
        return max((await self._budget_waits(owner)).values())

    async def tokens_wait(self) -> float:
        """Return the seconds until the agent may use tokens again; 0 if work may start."""
        of_budget = await self.budget.wait()
        if of_budget or not self.tokens_per_minute:
            return of_budget
        return (await self._decide({}, [self._tokens])).wait / 1000

    def explain(self, verdict: Verdict) -> tuple[str, int]:
        """Return why a request was refused, for its client, and after how many seconds to send it again."""
        seconds = max(1, math.ceil(verdict.wait / 1000))
        period = self.budget.terms.period
        reasons = {
            _BUDGET: f"This agent has used up its budget for the {period}",
            CLIENT_BUDGET: f"You have used up your budget for the {period}",
            TENANT_BUDGET: f"Your tenant has used up its budget for the {period}",
            "requests": f"You may send {verdict.limit} requests per minute",
            "tokens": f"This agent has used up its {self.tokens_per_minute} tokens per minute",
            "client_tokens": f"You have used up your {self.of_client.tokens} tokens per minute",
            "tenant_requests": f"Your tenant may send {self.of_tenant.requests} requests per minute",
            "tenant_tokens": f"Your tenant has used up its {self.of_tenant.tokens} tokens per minute",
        }
        return f"{reasons[str(verdict.refused)]}; try again in {seconds} s.", seconds

    def charge(self, usage: Usage, client: str | None) -> None:
        """Count the usage of a turn of a client. Return at once: usage is reported in batches in the background."""
        for failed in usage.given_up:
            self.charge(failed, client)
        self._count(usage, client)
        self.budget.charge(usage)
        self.shares.charge(client, usage)
        self.history.charge(client, usage)
        if usage.total <= 0:
            return
        for rate in self._all_tokens(client):
            before = self._used.get(rate.key, rate)
            self._used[rate.key] = before._replace(used=before.used + usage.total)
        if self._used and self._charging is None:
            self._charging = asyncio.get_running_loop().create_task(self._charge())

    async def close(self) -> None:
        """Report the remaining usage."""
        await self.budget.close()
        await self.shares.close()
        await self.history.close()
        if self._charging is not None:
            await self._charging

    async def _charge(self) -> None:
        try:
            while self._used:
                used, self._used = list(self._used.values()), {}
                await self._step(0, used)
        finally:
            self._charging = None

    async def _budget_waits(self, owner: str | None) -> dict[str, float]:
        return {_BUDGET: await self.budget.wait(), **await self.shares.waits(owner)}

    def _requests(self, client: str, owner: str | None) -> Iterator[Rate]:
        """Yield the limits of requests that apply to a client. The first is its own, if it has one."""
        own = self.of_client.requests if _is_known(owner) else 0
        limit = own or self.requests_per_minute
        if limit:
            yield Rate(self._key("requests", limit, client), limit, "requests", takes=1)
        yield from self._of_tenant(owner, "requests", self.of_tenant.requests, takes=1)

    def _all_tokens(self, owner: str | None) -> Iterator[Rate]:
        if self.tokens_per_minute:
            yield self._tokens
        yield from self._share_tokens(owner)

    def _share_tokens(self, owner: str | None) -> Iterator[Rate]:
        limit = self.of_client.tokens
        if limit and _is_known(owner):
            yield Rate(self._key("client_tokens", limit, str(owner)), limit, "client_tokens")
        yield from self._of_tenant(owner, "tokens", self.of_tenant.tokens)

    def _of_tenant(self, owner: str | None, what: str, limit: int, takes: int = 0) -> Iterator[Rate]:
        tenant = tenant_of(owner) if limit and owner is not None else None
        if tenant is not None:
            yield Rate(self._key(f"tenant_{what}", limit, tenant), limit, f"tenant_{what}", takes)

    def _key(self, what: str, limit: int, *whose: str) -> str:
        # The limit is part of the key: counts under another limit do not apply to this one.
        return self._redis.key("limit", what, str(limit), *whose)

    async def _decide(self, waits: Mapping[str, float], rates: Sequence[Rate]) -> Verdict:
        whose, of_budget = longest(waits) if waits else (_BUDGET, 0)
        refused, wait, *debts = await self._step(of_budget, rates)
        reason = None if not refused else whose if refused < 0 else rates[refused - 1].refused
        own = rates[0] if rates and rates[0].refused == "requests" else None
        if own is None:
            return Verdict(reason, 0, 0, 0, wait)
        left = (own.limit * UNIT - debts[0]) // UNIT
        return Verdict(reason, own.limit, left, math.ceil(debts[0] / own.limit), wait)

    async def _step(self, of_budget: int, rates: Sequence[Rate]) -> Sequence[int]:
        """Return what `limit.lua` returns."""
        if not rates:
            return [-1 if of_budget else 0, of_budget]
        numbers = [number for rate in rates for number in (rate.limit, rate.used, rate.takes)]
        try:
            reply: Sequence[int] = await self._redis.run(_LIMIT, [rate.key for rate in rates], of_budget, *numbers)
        except StateUnavailableError:
            return self._local.step(int(self._seconds() * 1000), of_budget, rates)
        return reply


def _is_known(owner: str | None) -> bool:
    return owner is not None and owner != ANYONE
