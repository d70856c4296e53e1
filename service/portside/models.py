"""The connections to the model API, which all turns of a process share."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    # At run time it is imported with the first use: it takes 2 s.
    from anthropic import AsyncAnthropic

DEFAULT_MODEL = "claude-sonnet-5-5"
"""Model of a process whose environment names none. The same as the default of the setting DEFAULT_MODEL."""

DEFAULT_MAX_TOKENS = 4096
"""The same as the default of the setting MAX_TOKENS."""

PLACEHOLDER_KEY = "portside-gateway"
"""What the SDK gets as its key: it does not start without one. The gateway replaces it."""


class Models:
    """The client of the model API. It is created with the first use, and its connections are shared."""

    def __init__(self) -> None:
        self._client: AsyncAnthropic | None = None
        self._creating = threading.Lock()

    def warm_up(self) -> None:
        """Import the SDK and create the client, so that the first turn does not wait for that. Runs in a thread."""
        _ = self._shared().messages

    def client(self, headers: Mapping[str, str], seconds: float) -> AsyncAnthropic:
        """Return a client over the shared connections.

        Args:
            headers: headers of each of its requests.
            seconds: time limit of each of its requests.
        """
        made = self._shared().with_options(default_headers=headers, timeout=seconds)
        # `async with turn.anthropic` must not close the connections of other turns.
        setattr(made, "close", _leave_open)  # noqa: B010  # a method, for mypy
        return made

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.close()

    def _shared(self) -> AsyncAnthropic:
        with self._creating:
            if self._client is None:
                self._client = _create()
            return self._client


async def _leave_open() -> None:
    """Do nothing, in place of closing the shared connections."""


def _create() -> AsyncAnthropic:
    from anthropic import AsyncAnthropic, DefaultAioHttpClient  # noqa: PLC0415

    address = os.environ.get("ANTHROPIC_BASE_URL") or None
    return AsyncAnthropic(
        api_key=os.environ.get("ANTHROPIC_API_KEY") or PLACEHOLDER_KEY,
        base_url=address,
        # The gateway retries by itself.
        max_retries=0 if address else 2,
        # A proxy of the cluster cannot reach this machine's loopback address.
        http_client=DefaultAioHttpClient(trust_env=not _is_loopback(address)),
    )


def _is_loopback(address: str | None) -> bool:
    host = urlsplit(address or "").hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
