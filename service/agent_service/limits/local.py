"""Rate limits of one process while Redis is down. Pure."""

import math
from collections import OrderedDict
from collections.abc import Sequence

from agent_service.limits.rates import Rate

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

    def __init__(self, most: int, *, kept: str = "") -> None:
        """Set up the buckets: at most `most`, besides the one with the key `kept`, which is never forgotten."""
        self._most = most
        self._kept = kept
        self._bucket_kept = Bucket()
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def step(self, now: int, of_budget: int, rates: Sequence[Rate]) -> list[int]:
        """Do the same as the script, at the time `now` in milliseconds, and return the same result."""
        refused, wait = (-1, of_budget) if of_budget else (0, 0)
        buckets = [self._bucket(rate.key) for rate in rates]
        for number, (bucket, rate) in enumerate(zip(buckets, rates, strict=True), 1):
            bucket.debt = bucket.settle(rate.limit, now) + rate.used * UNIT
            of_this = math.ceil((bucket.debt + (rate.takes - rate.limit) * UNIT) / rate.limit)
            if of_this > wait:
                refused, wait = number, of_this
        if not refused:
            for bucket, rate in zip(buckets, rates, strict=True):
                bucket.debt += rate.takes * UNIT
        return [refused, wait, *(bucket.debt for bucket in buckets)]

    def _bucket(self, key: str) -> Bucket:
        if key == self._kept:
            return self._bucket_kept
        bucket = self._buckets.setdefault(key, Bucket())
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return bucket
