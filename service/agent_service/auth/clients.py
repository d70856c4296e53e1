"""Identifies the client of a request: by its key, by its token, or else by its address."""

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping
from functools import lru_cache
from secrets import compare_digest
from typing import TYPE_CHECKING

from agent_service.auth.identity import Client, Refusal, label_of, of_key
from agent_service.config.client_keys import client_keys
from agent_service.config.secret_file import SecretFile
from agent_service.config.settings import CLIENT_KEYS_NAME, Settings

if TYPE_CHECKING:
    from agent_service.auth.tokens.tokens import Tokens

# A whole IPv6 /64 belongs to one customer, who can use any of its addresses for each request (RFC 6177).
_IPV6_PREFIX = 64

# Longer than any address in text form. A value in a proxy's header may have any length.
_LONGEST_ADDRESS = 64

# A client whose address is unknown: on a Unix socket, or behind a proxy that hides it.
_UNKNOWN = "unknown"

_BEARER = b"bearer "


_INVALID_KEY = Refusal("invalid_token", "key", "The key that was sent is not valid")


class Clients:
    """Holds the keys of the clients, and identifies the client of a request."""

    def __init__(self, settings: Settings, tokens: "Tokens | None" = None) -> None:
        """Set up the keys. `tokens` identifies clients by their tokens; None without JWT_FILE."""
        self._tokens = tokens
        given = settings.api_keys.get_secret_value() if settings.api_keys else ""
        file = settings.secret_file(CLIENT_KEYS_NAME)
        self._known = SecretFile(_by_digest(given) if given else {}, file, _by_digest)

    @property
    def need_keys(self) -> bool:
        """Whether a key or a token is required. This never reverts: the removal of the key file opens nothing."""
        return self._tokens is not None or bool(self._known.current())

    @property
    def accepted(self) -> str:
        """What a client may send, as the end of a sentence."""
        keys = "one of this agent's client keys as 'Authorization: Bearer <key>' or 'X-API-Key: <key>'"
        if self._tokens is None:
            return f"send {keys}."
        signed = "a token of this agent's issuer as 'Authorization: Bearer <token>'"
        return f"send {signed}, or {keys}." if self._known.current() else f"send {signed}."

    def has(self, key: bytes) -> bool:
        """Return whether this is a client's key."""
        return _find(self._known.current(), key) is not None

    def label(self, client_id: str | None) -> str:
        """Return `Client.label` for the id of a client, which is None or `anyone` without a key or token."""
        found = (client.label for client in self._known.current().values() if client.id == client_id)
        return next(found, None) or label_of(client_id)

    async def identify(self, headers: Iterable[tuple[bytes, bytes]], address: str | None) -> Client:
        """Return the client that sent a request with these headers (ASGI: names in lower case) from this address."""
        known = self._known.current()
        shown = shown_keys(headers) if self.need_keys else []
        for key in shown:
            client = _find(known, key)
            if client is not None:
                return client
        refusal = _INVALID_KEY if shown else None
        for token in shown:
            found = None if self._tokens is None else await self._tokens.identify(token)
            if isinstance(found, Client):
                return found
            refusal = found or refusal
        return Client(network(address or ""), known=False, refusal=refusal)


def shown_keys(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """Return the keys sent in either header. A gateway in front may use the other header itself."""
    shown = []
    for name, value in headers:
        # The scheme is case-insensitive (RFC 9110, 11.1).
        if name == b"authorization" and value[: len(_BEARER)].lower() == _BEARER:
            shown.append(value[len(_BEARER) :].strip())
        elif name == b"x-api-key":
            shown.append(value)
    return shown


@lru_cache(maxsize=4096)
def _parse(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return _UNKNOWN
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, _IPV6_PREFIX), strict=False))


def network(address: str) -> str:
    """Return what an address is counted as: the address itself for IPv4, its /64 for IPv6, else `unknown`."""
    return _parse(address) if len(address) <= _LONGEST_ADDRESS else _UNKNOWN


def _by_digest(raw: str) -> Mapping[bytes, Client]:
    return {hashlib.sha256(entry.key.encode()).digest(): of_key(*entry) for entry in client_keys(raw)}


def _find(known: Mapping[bytes, Client], key: bytes) -> Client | None:
    """Return the client of a key, or None.

    Comparing digests hides the lengths of the keys. Comparing with all of them hides which one nearly matched.
    """
    digest = hashlib.sha256(key).digest()
    found = None
    for each, client in known.items():
        if compare_digest(each, digest):
            found = client
    return found
