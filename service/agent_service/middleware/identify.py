"""Who is asking is found out once, and is in `scope["portside.client"]` for all that comes after."""

import ipaddress
from collections.abc import Sequence
from typing import Any, cast

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from agent_service.clients import Clients

_log = structlog.get_logger(__name__)

CLIENT = "portside.client"


class Identify:
    """Puts a `Client` into the scope. `X-Forwarded-For` and `-Proto` are believed from `trusted_proxies` only."""

    def __init__(self, app: ASGIApp, *, clients: Clients, trusted_proxies: Sequence[str]) -> None:
        self.app = app
        self.clients = clients
        # An empty list is nobody. Its own default is 127.0.0.1, which every sidecar and `kubectl port-forward` has.
        # uvicorn has types of its own for ASGI.
        self.unwrap: Any = ProxyHeadersMiddleware(cast("Any", self._identified), _also_mapped(trusted_proxies))
        self.told = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if not self.told:
            self._tell(scope)
        await self.unwrap(scope, receive, send)

    async def _identified(self, scope: Scope, receive: Receive, send: Send) -> None:
        address = scope.get("client")
        scope[CLIENT] = self.clients.identify(scope["headers"], address[0] if address else None)
        await self.app(scope, receive, send)

    def _tell(self, scope: Scope) -> None:
        """Say, once, that there seems to be a proxy: all who come through it share the limits of one address."""
        peer = scope.get("client")
        if peer and peer[0] in self.unwrap.trusted_hosts:
            return
        if any(name == b"x-forwarded-for" for name, _ in scope["headers"]):
            self.told = True
            _log.warning(
                "X-Forwarded-For was ignored: its sender is not among the trusted proxies",
                peer=peer[0] if peer else None,
                action="if it is your proxy, name it in TRUSTED_PROXIES; its users share one rate limit until then",
            )


def _also_mapped(networks: Sequence[str]) -> list[str]:
    """Give the networks also as a socket that listens on both IPv6 and IPv4 shows IPv4 (RFC 4291, 2.5.5.2)."""
    parsed = map(ipaddress.ip_network, networks)
    mapped = [f"::ffff:{net.network_address}/{96 + net.prefixlen}" for net in parsed if net.version == 4]  # noqa: PLR2004
    return [*networks, *mapped]
