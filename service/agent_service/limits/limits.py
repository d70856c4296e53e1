"""The limits of requests per client, and of tokens per agent: per minute, by buckets, and by its budget."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from agent_service.agent.messages import Usage
from agent_service.limits.budget import Budget
from agent_service.limits.local import LocalBuckets
from agent_service.limits.shares import CLIENT_BUDGET, TENANT_BUDGET, Shares, longest
from agent_service.state.redis import Redis
from agent_service.state.redis_errors import StateUnavailableError
from agent_service.state.script import Script

_LIMIT = Script(__package__, "limit")

# While Redis is down, each process counts by itself. This many clients take about 4 MB; the least recently seen is
# forgotten first.
MOST_CLIENTS = 10_000

_BUDGET = "budget"
_REFUSED_BY = (None, "requests", "tokens", _BUDGET)


class Verdict(NamedTuple):
    """The decision of the limits on one request. Times are whole milliseconds.

    `refused` is None, `requests` (of this client), `tokens` or `budget` (of the whole agent), `client_budget` or
    `tenant_budget`. If several limits refuse,
    it is the one that refuses for longest. `left` is the number of requests that the client has left, `reset` the time
    until it has all of them again, and `wait` the time until the same request would be accepted.
    """

    refused: str | None
    left: int
    reset: int
    wait: int


class Limits:
    """The limits of all replicas together, in Redis; those of this process only while Redis is down.

    Both limits are off when 0; the budget is off when it has no limit.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        requests_per_minute: int,
        tokens_per_minute: int,
        budget: Budget,
        shares: Shares,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.requests_per_minute = requests_per_minute
        self.tokens_per_minute = tokens_per_minute
        self.budget = budget
        self.shares = shares
        self._redis = redis
        self._local = LocalBuckets(MOST_CLIENTS)
        self._seconds = seconds
        # The limit is part of the key: counts under another limit do not apply to this one.
        self._requests_key = redis.key("limit", "requests", str(requests_per_minute), "")
        self._tokens_key = redis.key("limit", "tokens", str(tokens_per_minute))
        self._used = 0
        self._charging: asyncio.Task[None] | None = None

    @property
    def on(self) -> bool:
        """Whether there is any limit."""
        return bool(self.requests_per_minute or self.tokens_per_minute or self.budget.stops or self.shares.stop)

    async def admit(
        self, client: str, *, takes_tokens: bool, queues: bool = False, owner: str | None = None
    ) -> Verdict:
        """Count one request of `client`, and return whether it may proceed. A refused request is not counted.

        Args:
            client: the client that sent the request.
            takes_tokens: whether the request calls the model, so that the token limit and the budgets apply.
            queues: whether the request is a task, which waits for the token limit and for the budget of the agent, but
                not for that of its client: other clients' tasks would wait behind it.
            owner: the client by whose budget the request is limited; None if it has no key and no token.
        """
        if takes_tokens:
            return await self._within_budgets(client, owner, self.requests_per_minute)
        waits = await self.shares.waits(owner) if queues else {}
        return await self._within(waits, client, self.requests_per_minute, 0)

    async def admit_tokens(self, owner: str | None) -> Verdict:
        """Return whether the agent may call the model for a client now. This counts no request."""
        return await self._within_budgets("", owner, 0)

    async def _within_budgets(self, client: str, owner: str | None, requests: int) -> Verdict:
        waits = {_BUDGET: await self.budget.wait(), **await self.shares.waits(owner)}
        return await self._within(waits, client, requests, self.tokens_per_minute)

    async def _within(self, waits: Mapping[str, float], client: str, requests: int, tokens: int) -> Verdict:
        whose, of_budget = longest(waits) if waits else (_BUDGET, 0)
        verdict = await self._step(client, requests, tokens, 0, of_budget)
        return verdict._replace(refused=whose) if verdict.refused == _BUDGET else verdict

    async def budget_wait(self, owner: str | None) -> float:
        """Return the seconds until a client may use more of its budget and that of the agent; 0 if it may now."""
        return max(await self.budget.wait(), *(await self.shares.waits(owner)).values(), 0.0)

    def explain(self, verdict: Verdict) -> tuple[str, int]:
        """Return why a request was refused, for its client, and after how many seconds to send it again."""
        seconds = max(1, math.ceil(verdict.wait / 1000))
        if verdict.refused == "budget":
            reason = f"This agent has used up its budget for the {self.budget.terms.period}"
        elif verdict.refused == CLIENT_BUDGET:
            reason = f"You have used up your budget for the {self.budget.terms.period}"
        elif verdict.refused == TENANT_BUDGET:
            reason = f"Your tenant has used up its budget for the {self.budget.terms.period}"
        elif verdict.refused == "requests":
            reason = f"You may send {self.requests_per_minute} requests per minute"
        else:
            reason = f"This agent has used up its {self.tokens_per_minute} tokens per minute"
        return f"{reason}; try again in {seconds} s.", seconds

    def charge(self, usage: Usage, client: str | None) -> None:
        """Count the usage of a turn of a client. Return at once: usage is reported in batches in the background."""
        for failed in usage.given_up:
            self.charge(failed, client)
        self.budget.charge(usage)
        self.shares.charge(client, usage)
        if self.tokens_per_minute and usage.total > 0:
            self._used += usage.total
            if self._charging is None:
                self._charging = asyncio.get_running_loop().create_task(self._charge())

    async def tokens_wait(self) -> float:
        """Return the seconds until the agent may use tokens again; 0 if work may start."""
        of_budget = await self.budget.wait()
        if of_budget or not self.tokens_per_minute:
            return of_budget
        return (await self._step("", 0, self.tokens_per_minute, 0)).wait / 1000

    async def close(self) -> None:
        """Report the remaining usage."""
        await self.budget.close()
        await self.shares.close()
        if self._charging is not None:
            await self._charging

    async def _charge(self) -> None:
        try:
            while self._used:
                used, self._used = self._used, 0
                await self._step("", 0, self.tokens_per_minute, used)
        finally:
            self._charging = None

    async def _step(self, client: str, requests: int, tokens: int, used: int, of_budget: int = 0) -> Verdict:
        keys = (self._requests_key + client, self._tokens_key)
        try:
            refused, left, reset, wait = await self._redis.run(_LIMIT, keys, requests, tokens, used, of_budget)
        except StateUnavailableError:
            now = int(self._seconds() * 1000)
            refused, left, reset, wait = self._local.step(client, now, requests, tokens, used, of_budget=of_budget)
        return Verdict(_REFUSED_BY[refused], left, reset, wait)
