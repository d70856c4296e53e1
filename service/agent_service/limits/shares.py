"""The usage and the budget of each client, and of each tenant."""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from agent_service.agent.messages import Usage
from agent_service.auth.identity import ANYONE, tenant_of
from agent_service.limits.budget import Account, Budget, Spent
from agent_service.limits.terms import Terms
from agent_service.state.redis import Redis

# Those of this many clients and tenants take about 10 MB. What is forgotten is in Redis.
_MOST_KNOWN = 10_000

CLIENT, TENANT = "client", "tenant"

CLIENT_BUDGET, TENANT_BUDGET = "client_budget", "tenant_budget"
"""What refuses a request whose client, or whose tenant, has used up its budget."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a client (`kind` is `client`) or a tenant has used in a period, across all processes."""

    kind: str
    id: str
    spent: Spent


class Shares:
    """The usage of clients with a key or a token, and of their tenants. Counted as `Budget` counts that of the agent.

    Usage is counted without limits, too, so that it can be looked up.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        of_client: Terms,
        of_tenant: Terms,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Set up the accounts. Both terms have the period of the agent's budget."""
        self.terms = {CLIENT: of_client, TENANT: of_tenant}
        self._redis = redis
        self._now = now
        self._budgets: OrderedDict[tuple[str, str], Budget] = OrderedDict()

    @property
    def stop(self) -> bool:
        """Whether any client or tenant can use up a budget and is stopped then."""
        return any(terms.on and terms.stops for terms in self.terms.values())

    def charge(self, client: str | None, usage: Usage) -> None:
        """Count the usage of a turn of a client, by its id. Return at once, as `Budget.charge` does."""
        for budget in self._of(client):
            budget.charge(usage)

    async def waits(self, client: str | None) -> dict[str, float]:
        """Return the seconds until a client may use more, by what refuses it until then."""
        if not self.stop:
            return {}
        budgets = list(self._of(client))
        waits = await asyncio.gather(*(budget.wait() for budget in budgets))
        return {f"{kind}_budget": wait for kind, wait in zip((CLIENT, TENANT), waits, strict=False)}

    async def used(self, client: str) -> list[Account]:
        """Return the usage of a client in the current period and, if it has one, that of its tenant."""
        return list(await asyncio.gather(*(budget.used() for budget in self._of(client))))

    async def all(self, period: str) -> list[Share]:
        """Return the usage of all clients and tenants in a period that is named `2026-11-23` or `2026-11`.

        Raises:
            StateUnavailableError: when Redis is unavailable.
        """
        await asyncio.gather(*(budget.used() for budget in self._budgets.values() if budget.has_unreported))
        members: Sequence[bytes] = (
            await self._redis.read("SMEMBERS", self._redis.key("budget", "accounts", period)) or ()
        )
        return await asyncio.gather(*(self._share(member.decode(), period) for member in sorted(members)))

    async def close(self) -> None:
        """Report the remaining usage."""
        await asyncio.gather(*(budget.close() for budget in self._budgets.values()))

    async def _share(self, member: str, period: str) -> Share:
        kind, _, known = member.partition(":")
        key = self._redis.key("budget", member, period)
        tokens, cost = await self._redis.read("HMGET", key, "tokens", "cost") or (0, 0)
        return Share(kind, known, Spent(int(tokens or 0), int(cost or 0)))

    def _of(self, client: str | None) -> Iterator[Budget]:
        if client is None or client == ANYONE:
            return
        yield self._budget(CLIENT, client)
        tenant = tenant_of(client)
        if tenant is not None:
            yield self._budget(TENANT, tenant)

    def _budget(self, kind: str, known: str) -> Budget:
        budget = self._budgets.get((kind, known))
        if budget is None:
            budget = Budget(self._redis, self.terms[kind], account=f"{kind}:{known}", now=self._now)
            self._budgets[kind, known] = budget
            self._forget()
        self._budgets.move_to_end((kind, known))
        return budget

    def _forget(self) -> None:
        """Forget the account that was used least recently, if it has nothing to report."""
        if len(self._budgets) > _MOST_KNOWN:
            oldest = next(iter(self._budgets))
            if self._budgets[oldest].has_unreported:
                self._budgets.move_to_end(oldest)
            else:
                del self._budgets[oldest]


def longest(waits: Mapping[str, float]) -> tuple[str, int]:
    """Return what refuses for longest, and for how many milliseconds."""
    reason = max(waits, key=lambda each: waits[each])
    return reason, math.ceil(waits[reason] * 1000)
