"""Rate limits of one process while Redis is down. Pure."""

import math
from collections import OrderedDict

# Debt of one request or one token; see `lua/limit.lua`. It converts a limit per minute to an integer per millisecond.
UNIT = 60_000


class Bucket:
    """A bucket: the `debt` that was taken and had not been restored at a time (`at`, in milliseconds)."""

    __slots__ = ("at", "debt")

    def __init__(self) -> None:
        self.debt = 0
        self.at = 0

    def settle(self, limit: int, now: int) -> int:
        """Return the debt at time `now`."""
        self.debt = max(0, self.debt - limit * max(0, now - self.at))
        self.at = now
        return self.debt


class LocalBuckets:
    """The buckets of `lua/limit.lua` in this process; tests check that both behave the same."""

    def __init__(self, most_clients: int) -> None:
        self._most_clients = most_clients
        self._clients: OrderedDict[str, Bucket] = OrderedDict()
        self._agent = Bucket()

    def __len__(self) -> int:
        return len(self._clients)

    def step(
        self, client: str, now: int, requests: int, tokens: int, used: int, *, of_budget: int = 0
    ) -> tuple[int, int, int, int]:
        """Do the same as the script, at the time `now` in milliseconds, and return the same result."""
        refused, wait = (3, of_budget) if of_budget else (0, 0)
        if tokens:
            spent = self._agent.settle(tokens, now) + used * UNIT
            self._agent.debt = spent
            of_tokens = math.ceil((spent - tokens * UNIT) / tokens)
            if of_tokens > wait:
                refused, wait = 2, of_tokens
        if not requests:
            return refused, 0, 0, wait
        bucket = self._bucket(client)
        debt = bucket.settle(requests, now)
        of_requests = math.ceil((debt - (requests - 1) * UNIT) / requests)
        if of_requests > wait:
            refused, wait = 1, of_requests
        elif not refused:
            bucket.debt = debt = debt + UNIT
        return refused, (requests * UNIT - debt) // UNIT, math.ceil(debt / requests), wait

    def _bucket(self, client: str) -> Bucket:
        bucket = self._clients.setdefault(client, Bucket())
        self._clients.move_to_end(client)
        if len(self._clients) > self._most_clients:
            self._clients.popitem(last=False)
        return bucket
