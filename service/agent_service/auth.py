"""Who is asking: a client that shows one of the agent's keys, or else an address."""

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from secrets import compare_digest

from agent_service.config.secret_file import SecretFile
from agent_service.config.settings import CLIENT_KEYS_NAME, Settings
from agent_service.config.values import valid_client_keys

# The whole of an IPv6 /64 is one customer's, who can take any address of it for each request (RFC 6177).
_IPV6_PREFIX = 64

# More than the longest address in text; what comes in a proxy's header may be of any length.
_LONGEST_ADDRESS = 64

# A client whose address is not known: on a Unix socket, or behind a proxy that hides it.
_UNKNOWN = "unknown"

_BEARER = b"bearer "


@dataclass(frozen=True, slots=True)
class Client:
    """Who sent a request: `id` is the name of its key if `key` is true, else its address.

    A key's name is the first 16 hex digits of its SHA-256, so that it can stand in a log or in Redis.
    """

    id: str
    key: bool


class Clients:
    """Knows the keys of the clients, and with them who is asking."""

    def __init__(self, settings: Settings) -> None:
        given = settings.api_keys.get_secret_value() if settings.api_keys else ""
        self._names = SecretFile(_names(given) if given else {}, settings.secret_file(CLIENT_KEYS_NAME), _names)

    @property
    def need_keys(self) -> bool:
        """Whether a key must be shown. Once that is so it stays so: a file that goes away opens no door."""
        return bool(self._names.current())

    def identify(self, headers: Iterable[tuple[bytes, bytes]], address: str | None) -> Client:
        """Tell who sent a request with these headers (ASGI: names in lower case) from that address."""
        names = self._names.current()
        if names:
            for key in shown_keys(headers):
                name = _find(names, key)
                if name is not None:
                    return Client(name, key=True)
        return Client(network(address or ""), key=False)


def shown_keys(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """Give what is shown as a key, by either header: a gateway in front may use the other one for itself."""
    shown = []
    for name, value in headers:
        # The scheme's case does not matter (RFC 9110, 11.1).
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
    """Give what an address is counted as: an IPv4 address itself, an IPv6 address its /64, else `unknown`."""
    return _parse(address) if len(address) <= _LONGEST_ADDRESS else _UNKNOWN


def _names(raw: str) -> Mapping[bytes, str]:
    digests = [hashlib.sha256(key.encode()) for key in valid_client_keys(raw)]
    return {digest.digest(): digest.hexdigest()[:16] for digest in digests}


def _find(names: Mapping[bytes, str], key: bytes) -> str | None:
    """Give the name of a key. Digests hide the lengths; looking at all of them hides which one was nearly right."""
    digest = hashlib.sha256(key).digest()
    found = None
    for known, name in names.items():
        if compare_digest(known, digest):
            found = name
    return found
