"""What a minute allows: requests and tokens, of a client, a tenant or the agent. Pure."""

from typing import NamedTuple


class Rates(NamedTuple):
    """Requests and tokens per minute; 0: no limit."""

    requests: int = 0
    tokens: int = 0


NO_RATES = Rates()


class Rate(NamedTuple):
    """One limit as it applies to a request.

    `key` is the name of its bucket, `limit` what a minute restores, and `refused` its name in `Verdict.refused`.
    `takes` is 1 if an accepted request takes one from the bucket, else 0. `used` are tokens that were used.
    """

    key: str
    limit: int
    refused: str
    takes: int = 0
    used: int = 0
