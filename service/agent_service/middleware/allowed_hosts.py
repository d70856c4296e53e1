"""Answer only requests for our own hosts, so that no page of another site reaches an agent without keys.

A page whose name is made to point to 127.0.0.1 (DNS rebinding) can send requests to an agent on its visitor's machine,
and read the answers, because the browser treats both as one site. Only `Host`, which the browser sets, reveals it.
"""

import ipaddress
import re
from collections.abc import Sequence

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from agent_service.auth.clients import Clients
from agent_service.paths import HEALTH

_MISDIRECTED = 421

# RFC 3986, 3.2: an IPv6 address in brackets, or a name or IPv4 address, with an optional port.
_AUTHORITY = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]*)(:[0-9]*)?")

_REFUSED = (
    "This agent does not serve the host name of this request. "
    "If the name belongs to the agent, add it to ALLOWED_HOSTS."
)


class AllowedHosts:
    """Answers 421 (RFC 9110, 15.5.20) to a host that is not one of `allowed`.

    If `allowed` is empty, any host is answered, except over a loopback connection without client keys. There, the host
    must be one that no other site can have, such as `localhost` or an address. Health endpoints always answer, because
    probes use a pod's address.
    """

    def __init__(self, app: ASGIApp, *, allowed: Sequence[str], clients: Clients) -> None:
        self.app = app
        self.clients = clients
        self.any = "*" in allowed
        self.names = frozenset(allowed)
        self.suffixes = tuple(name[1:] for name in allowed if name.startswith("*."))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self.any and not self._is_ours(scope):
            answer = JSONResponse({"detail": _REFUSED}, status_code=_MISDIRECTED)
            await answer(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _is_ours(self, scope: Scope) -> bool:
        if scope["path"] in HEALTH:
            return True
        if self.names:
            hosts = _hosts(scope)
            return bool(hosts) and all(map(self._is_allowed, hosts))
        return not _is_local(scope) or self.clients.need_keys or all(map(_is_harmless, _hosts(scope)))

    def _is_allowed(self, host: str) -> bool:
        return host in self.names or (bool(self.suffixes) and host.endswith(self.suffixes))


def _hosts(scope: Scope) -> list[str]:
    """Return all hosts that a request names, because it is not certain which one counts."""
    return [host_of(value.decode("latin-1")) for name, value in scope["headers"] if name == b"host"]


def host_of(authority: str) -> str:
    """Return the host of `host:port` in the form used for comparison. A malformed value is returned as it is."""
    value = authority.strip().lower()
    parts = _AUTHORITY.fullmatch(value)
    if parts is None:
        return value
    host = parts["host"].strip("[]").removesuffix(".")
    return _address(host) or host


def _is_harmless(host: str) -> bool:
    """Return whether a host cannot be a page's own name in public DNS: an address, or a name without a dot.

    Browsers resolve names below `localhost` themselves (RFC 6761, 6.3). Top-level domains have no addresses (ICANN
    forbids them), so a name of one label belongs to this machine or its network.
    """
    well_formed = _AUTHORITY.fullmatch(host) is not None and ("." not in host or host.endswith(".localhost"))
    return well_formed or bool(_address(host))


def _is_local(scope: Scope) -> bool:
    """Return whether the connection was made to a loopback address of this machine."""
    server = scope.get("server")
    try:
        address = ipaddress.ip_address(server[0] if server else "")
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or (mapped is not None and mapped.is_loopback)


def _address(host: str) -> str:
    try:
        return ipaddress.ip_address(host).compressed
    except ValueError:
        return ""
