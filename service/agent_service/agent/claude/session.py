"""The HTTP session with the model API: its connections, certificates and proxy."""

import ssl

import aiohttp
import httpx2
import structlog

from agent_service.agent.claude.connection import CertificateFileError
from agent_service.network.proxy import ProxyError, proxy_for

_log = structlog.get_logger(__name__)

# Below the idle timeouts of common load balancers (60 s), so that this end closes the connection.
_KEEP_ALIVE_SECONDS = 30.0

# A pod whose SYN gets no response within this time has no route; waiting longer only delays the client.
CONNECT_SECONDS = 5.0

# A stream buffers twice this for a client that reads slowly (aiohttp's low and high water marks).
_READ_BUFFER_BYTES = 2**16

# Events must not wait in a compressor, and uncompressed data cannot be a decompression bomb.
UNCOMPRESSED = {"Accept-Encoding": "identity"}


def open_session(address: str) -> aiohttp.ClientSession:
    """Return a session for the model API at `address`, whose connections are limited only by its requests.

    A session belongs to the event loop that runs at its creation.

    Raises:
        CertificateFileError: when the certificates of SSL_CERT_FILE or SSL_CERT_DIR cannot be loaded.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS, ssl=_certificates(address)),
        cookie_jar=aiohttp.DummyCookieJar(),
        proxy=_proxy(address),
        timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS),
        read_bufsize=_READ_BUFFER_BYTES,
    )


def _certificates(address: str) -> ssl.SSLContext | bool:
    # httpx2's: those of SSL_CERT_FILE or SSL_CERT_DIR, else certifi's, because a slim image has no certificates.
    try:
        return httpx2.create_ssl_context() if address.startswith("https:") else True
    except OSError as error:
        raise CertificateFileError(str(error)) from error


def _proxy(address: str) -> str | None:
    """Return the proxy that the environment sets for an address (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY)."""
    try:
        return proxy_for(address, any_scheme=True)
    except ProxyError as error:
        _log.warning("Proxy could not be used, connected to the model API directly", reason=str(error))
        return None
