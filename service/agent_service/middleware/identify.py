"""Identify the client of a request once, and store it in `scope["portside.client"]` for all later layers."""

import ipaddress
from collections.abc import Sequence

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from agent_service.auth.clients import Clients

_log = structlog.get_logger(__name__)

CLIENT = "portside.client"
# Whether the connection comes from a trusted proxy, whose other forwarding headers may be used too.
TRUSTED = "portside.trusted_proxy"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Proxies that may have added their client's address. Entries further left come from further away, and may be forged.
_MOST_HOPS = 32
# Longer than any address in text form, with brackets, zone and port.
_LONGEST_HOP = 80


class Identify:
    """Puts a `Client` into the scope. `X-Forwarded-For` and `-Proto` are accepted only from `trusted_proxies`."""

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
        scope[TRUSTED] = address is not None and is_trusted(address, self.trusted)
        if address is not None and scope[TRUSTED]:
            scope["scheme"] = _forwarded_scheme(scope) or scope["scheme"]
            client = forwarded_client(address, _values(scope, b"x-forwarded-for"), self.trusted)
            # The client's port is unknown: only the proxy saw it.
            scope["client"] = (str(client), 0)
        elif not self.warned:
            self._warn(scope, peer)
        found = scope.get("client")
        sender = await self.clients.identify(scope["headers"], found[0] if found else None)
        scope[CLIENT] = sender
        if not sender.known:
            await self.app(scope, receive, send)
            return
        with structlog.contextvars.bound_contextvars(client=sender.shown):
            await self.app(scope, receive, send)

    def _warn(self, scope: Scope, peer: str | None) -> None:
        """Log once that there seems to be a proxy: all its users share the limits of one address."""
        if any(name == b"x-forwarded-for" for name, _ in scope["headers"]):
            self.warned = True
            _log.warning(
                "X-Forwarded-For was ignored: its sender is not among the trusted proxies",
                peer=peer,
                action="if it is your proxy, name it in TRUSTED_PROXIES; its users share one rate limit until then",
            )


def forwarded_client(peer: Address, values: Sequence[str], trusted: Sequence[Network]) -> Address:
    """Return the address that a request behind trusted proxies came from.

    Each proxy appends the address that it saw on the right. So the rightmost address that does not belong to a proxy
    counts; everything left of it is the client's own claim. If all addresses belong to proxies, the one that the
    nearest proxy saw counts, because a client among the trusted addresses can forge the others. An entry that is not
    an address ends the search, with the same result.

    Args:
        peer: trusted proxy that the connection comes from.
        values: lines of `X-Forwarded-For`, as received.
        trusted: networks of the proxies.
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
    """Return the IPv4 or IPv6 address of one entry, which may have a port, brackets, quotes or a zone."""
    text = entry.strip().strip('"') if len(entry) <= _LONGEST_HOP else ""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    # A socket that listens on both IPv6 and IPv4 shows IPv4 in this form (RFC 4291, 2.5.5.2).
    return getattr(address, "ipv4_mapped", None) or address


def is_trusted(address: Address, trusted: Sequence[Network]) -> bool:
    """Return whether an address is in one of the networks."""
    return any(address in network for network in trusted)


def _values(scope: Scope, wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in scope["headers"] if name == wanted]


def _forwarded_scheme(scope: Scope) -> str | None:
    """Return the scheme that the client of the nearest proxy used, `http` or `https`; None if it is unknown."""
    scheme = ",".join(_values(scope, b"x-forwarded-proto")).rpartition(",")[2].strip().lower()
    return scheme if scheme in {"http", "https"} else None
