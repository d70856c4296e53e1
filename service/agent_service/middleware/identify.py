"""Who is asking is found out once, and is in `scope["portside.client"]` for all that comes after."""

import ipaddress
from collections.abc import Sequence

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from agent_service.auth import Clients

_log = structlog.get_logger(__name__)

CLIENT = "portside.client"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# As many proxies may have added their client's address. What is further left is from further away, and may be invented.
_MOST_HOPS = 32
# More than the longest address in text, with brackets, zone and port.
_LONGEST_HOP = 80


class Identify:
    """Puts a `Client` into the scope. `X-Forwarded-For` and `-Proto` are believed from `trusted_proxies` only."""

    def __init__(self, app: ASGIApp, *, clients: Clients, trusted_proxies: Sequence[str]) -> None:
        self.app = app
        self.clients = clients
        self.trusted = [ipaddress.ip_network(each) for each in trusted_proxies]
        self.warned = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        peer = scope["client"][0] if scope.get("client") else None
        address = parse_hop(peer or "")
        if address is not None and is_trusted(address, self.trusted):
            scope["scheme"] = _forwarded_scheme(scope) or scope["scheme"]
            client = forwarded_client(address, _values(scope, b"x-forwarded-for"), self.trusted)
            # The number of its port is not known: only what the proxy saw.
            scope["client"] = (str(client), 0)
        elif not self.warned:
            self._warn(scope, peer)
        found = scope.get("client")
        scope[CLIENT] = self.clients.identify(scope["headers"], found[0] if found else None)
        await self.app(scope, receive, send)

    def _warn(self, scope: Scope, peer: str | None) -> None:
        """Log, once, that there seems to be a proxy: all who come through it share the limits of one address."""
        if any(name == b"x-forwarded-for" for name, _ in scope["headers"]):
            self.warned = True
            _log.warning(
                "X-Forwarded-For was ignored: its sender is not among the trusted proxies",
                peer=peer,
                action="if it is your proxy, name it in TRUSTED_PROXIES; its users share one rate limit until then",
            )


def forwarded_client(peer: Address, values: Sequence[str], trusted: Sequence[Network]) -> Address:
    """Return the address that a request behind trusted proxies came from.

    Each proxy adds the address that it saw on the right. So the rightmost one that is not a proxy's counts; all that is
    left of it is the client's own claim. Where all are proxies' own, it is the one that the nearest proxy saw, as a
    client among the trusted addresses can write the others itself. An entry that is no address ends the search: then it
    is the last one that was.

    Args:
        peer: the trusted proxy that the connection comes from.
        values: the lines of `X-Forwarded-For`, as they came.
        trusted: the networks of the proxies.
    """
    nearest: Address | None = None
    for entry in reversed(",".join(values).rsplit(",", _MOST_HOPS)[-_MOST_HOPS:]):
        if not entry.strip():
            continue
        hop = parse_hop(entry)
        if hop is None:
            break
        nearest = nearest or hop
        if not is_trusted(hop, trusted):
            return hop
    return nearest or peer


def parse_hop(entry: str) -> Address | None:
    """Return the address of one entry: an IPv4 or IPv6 address, perhaps with port, brackets, quotes or zone."""
    text = entry.strip().strip('"') if len(entry) <= _LONGEST_HOP else ""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    # As a socket that listens on both IPv6 and IPv4 shows IPv4 (RFC 4291, 2.5.5.2).
    return getattr(address, "ipv4_mapped", None) or address


def is_trusted(address: Address, trusted: Sequence[Network]) -> bool:
    """Whether an address is in one of the networks."""
    return any(address in network for network in trusted)


def _values(scope: Scope, wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in scope["headers"] if name == wanted]


def _forwarded_scheme(scope: Scope) -> str | None:
    """Return how the client of the nearest proxy came, `http` or `https`; None when it is unknown."""
    scheme = ",".join(_values(scope, b"x-forwarded-proto")).rpartition(",")[2].strip().lower()
    return scheme if scheme in {"http", "https"} else None
