"""The identity of a client: one of the agent's keys, or else an address."""

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from secrets import compare_digest

from agent_service.config.secret_file import SecretFile
from agent_service.config.settings import CLIENT_KEYS_NAME, Settings
from agent_service.config.values import valid_client_keys

# A whole IPv6 /64 belongs to one customer, who can use any of its addresses for each request (RFC 6177).
_IPV6_PREFIX = 64

# Longer than any address in text form. A value in a proxy's header may have any length.
_LONGEST_ADDRESS = 64

# A client whose address is unknown: on a Unix socket, or behind a proxy that hides it.
_UNKNOWN = "unknown"

_BEARER = b"bearer "


@dataclass(frozen=True, slots=True)
class Client:
    """The sender of a request: `id` is the name of its key if `key` is true, else its address.

    The name of a key is the first 16 hex digits of its SHA-256, so that it may be written to a log or to Redis.
    """

    id: str
    key: bool


class Clients:
    """Holds the keys of the clients, and identifies the client of a request."""

    def __init__(self, settings: Settings) -> None:
        given = settings.api_keys.get_secret_value() if settings.api_keys else ""
        self._names = SecretFile(_names(given) if given else {}, settings.secret_file(CLIENT_KEYS_NAME), _names)

    @property
    def need_keys(self) -> bool:
        """Whether a key is required. This never reverts: the removal of the key file does not open the service."""
        return bool(self._names.current())

    def has(self, key: bytes) -> bool:
        """Return whether this is a client's key."""
        return _find(self._names.current(), key) is not None

    def identify(self, headers: Iterable[tuple[bytes, bytes]], address: str | None) -> Client:
        """Return the client that sent a request with these headers (ASGI: names in lower case) from this address."""
        names = self._names.current()
        if names:
            for key in shown_keys(headers):
                name = _find(names, key)
                if name is not None:
                    return Client(name, key=True)
        return Client(network(address or ""), key=False)


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


def _names(raw: str) -> Mapping[bytes, str]:
    digests = [hashlib.sha256(key.encode()) for key in valid_client_keys(raw)]
    return {digest.digest(): digest.hexdigest()[:16] for digest in digests}


def _find(names: Mapping[bytes, str], key: bytes) -> str | None:
    """Return the name of a key, or None.

    Comparing digests hides the lengths of the keys. Comparing with all of them hides which one nearly matched.
    """
    digest = hashlib.sha256(key).digest()
    found = None
    for known, name in names.items():
        if compare_digest(known, digest):
            found = name
    return found
