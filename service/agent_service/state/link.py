"""Connections to the server: how they are made, and how they end."""

import contextlib
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis as Client
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

# A server in the same cluster answers a SYN in milliseconds. A slower one counts as down, because a chat is waiting.
CONNECT_SECONDS = 1.0

# Long enough for a server that forks to rewrite its file. Short enough that a frozen server affects one request in
# flight, and its user does not notice.
ANSWER_SECONDS = 2.0


@dataclass(slots=True)
class Link:
    """Connections that were made at about the same time, and the number of bundles in flight on them."""

    client: Client
    bundles: int = 0


def connect(address: str) -> Client:
    """Return a client of the server. It does not connect before its first command.

    Raises:
        ValueError, TypeError, RedisError: if the address has a value or an option that cannot be used.
    """
    # Connections to Unix sockets do not support this option.
    options: dict[str, Any] = {} if address.startswith("unix:") else {"socket_keepalive": True}
    # No retries: a script that was sent may have run. Callers retry the steps that are safe to repeat.
    return Client.from_url(
        address,
        protocol=2,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
        **options,
    )


async def close(link: Link) -> None:
    with contextlib.suppress(RedisError, OSError, TimeoutError):
        await link.client.aclose()
