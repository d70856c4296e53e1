"""TCP connections to tool servers and token endpoints: names are resolved first, and each address is checked."""

import asyncio
import socket
from collections.abc import Iterable

import httpcore2
import httpx2
import structlog

from agent_service.network.proxy import ProxyError, proxy_for
from agent_service.network.refused_addresses import is_refused, is_refused_host

_log = structlog.get_logger(__name__)

# Below the idle timeout of uvicorn (5 s), on which most servers run, so that this end closes the connection: a request
# on a connection that the server just closed would be a call of unknown outcome.
_KEEP_ALIVE_SECONDS = 4.0
_MOST_IDLE = 16

# What httpcore2 raises has no common class.
CONNECTION_ERRORS = (
    httpcore2.TimeoutException,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.ProxyError,
)

# A peer that vanished without closing is detected within a minute, although a stream may be silent for hours.
_KEEP_ALIVE_PROBES: list[tuple[int, int, int]] = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
        if hasattr(socket, name)
    ),
]


class AddressRefusedError(httpcore2.ConnectError):
    """The name of a server resolves to an address that is refused."""


class CheckedBackend(httpcore2.AnyIOBackend):
    """Connects to the addresses that were checked, so that a name cannot resolve to another one in between."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (the interface of httpcore2)
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first address of `host` that accepts.

        Raises:
            AddressRefusedError: if one of the addresses is refused.
            httpcore2.ConnectError, httpcore2.ConnectTimeout: if no address accepts in time.
        """
        try:
            async with asyncio.timeout(timeout):
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except TimeoutError:
            raise httpcore2.ConnectTimeout("name resolution timed out") from None
        except OSError as error:
            raise httpcore2.ConnectError(str(error)) from error
        addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
        # One is enough: the owner of the name could otherwise add a harmless address.
        if any(map(is_refused, addresses)):
            raise AddressRefusedError("the address is link-local or of a metadata service")
        failure: Exception = httpcore2.ConnectError("the name has no address")
        for address in addresses:
            try:
                return await super().connect_tcp(
                    address, port, timeout=timeout, local_address=local_address, socket_options=socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure


def open_pool(url: str, *, allow_link_local: bool, most_connections: int | None) -> httpcore2.AsyncConnectionPool:
    """Return a pool of connections to the host of `url`, through the proxy that the environment sets for it.

    A proxy resolves names itself, so that only addresses that are written in `url` are checked then.
    """
    ssl_context = httpx2.create_ssl_context() if url.lower().startswith("https:") else None
    proxy = _proxy(url)
    host = httpx2.URL(url).host
    if proxy is not None and not allow_link_local and is_refused_host(host):
        raise AddressRefusedError("the address is link-local or of a metadata service")
    backend = httpcore2.AnyIOBackend() if allow_link_local or proxy is not None else CheckedBackend()
    return httpcore2.AsyncConnectionPool(
        ssl_context=ssl_context,
        proxy=None if proxy is None else _with_credentials(proxy),
        max_connections=most_connections,
        max_keepalive_connections=_MOST_IDLE,
        keepalive_expiry=_KEEP_ALIVE_SECONDS,
        network_backend=backend,
        socket_options=_KEEP_ALIVE_PROBES,
    )


def _with_credentials(proxy: str) -> httpcore2.Proxy:
    url = httpx2.URL(proxy)
    auth = (url.username, url.password) if url.username else None
    return httpcore2.Proxy(str(url.copy_with(userinfo=b"")), auth=auth)


def _proxy(url: str) -> str | None:
    try:
        return proxy_for(url, any_scheme=True)
    except ProxyError as error:
        _log.warning("Proxy could not be used, connected to the tool server directly", reason=str(error))
        return None
