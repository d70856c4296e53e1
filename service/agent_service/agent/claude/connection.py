"""Why a connection to the model API failed, by the exceptions of aiohttp, `ssl` and the system. Pure."""

import aiohttp
import httpx2

from agent_service.agent.errors import ModelError, ModelFailedError, UnreachableError
from agent_service.network.errors import failure_of


class CertificateFileError(OSError):
    """The certificates of SSL_CERT_FILE or SSL_CERT_DIR cannot be loaded."""


_FAILED = "Cannot connect to the model API"

_SENTENCES = {
    "certificate_file": f"{_FAILED}: the certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be loaded.",
    "certificate": f"{_FAILED}: its certificate is not trusted. It was issued by a CA that is not known here "
    "(SSL_CERT_FILE), has expired, or is for another name.",
    "tls": f"{_FAILED}: TLS failed. Check the scheme and the port of its address.",
    "proxy": f"{_FAILED}: the proxy (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY) cannot be reached, or refused the request.",
    "dns": f"{_FAILED}: its name cannot be resolved (DNS).",
    "connection_refused": f"{_FAILED}: its address refused the connection.",
    "connect_timeout": f"{_FAILED}: its address did not accept the connection in time.",
    "no_route": f"{_FAILED}: there is no route to its address.",
    "disconnected": f"{_FAILED}: the connection was closed before there was an answer. Check the scheme and the port "
    "of its address.",
    "connection": f"{_FAILED}.",
}

KINDS = tuple(_SENTENCES)
"""Every `kind` of a failed connection."""

# The first match wins, so subclasses come before their parents.
_KINDS: tuple[tuple[type[BaseException], str], ...] = (
    (CertificateFileError, "certificate_file"),
    (httpx2.ProxyError, "proxy"),
    (aiohttp.ClientProxyConnectionError, "proxy"),
    (aiohttp.ClientHttpProxyError, "proxy"),
    (aiohttp.ClientConnectorCertificateError, "certificate"),
    (aiohttp.ServerFingerprintMismatch, "certificate"),
    (aiohttp.ClientConnectorDNSError, "dns"),
    (aiohttp.ConnectionTimeoutError, "connect_timeout"),
    (httpx2.ConnectTimeout, "connect_timeout"),
    (aiohttp.ServerDisconnectedError, "disconnected"),
)


def kind_of(error: BaseException) -> str:
    """Return the kind of an exception from a request without a response, considering its causes as well."""
    chain = _chain(error)
    for kind, word in _KINDS:
        if any(isinstance(each, kind) for each in chain):
            return word
    failure = failure_of(chain)
    return "connect_timeout" if failure == "timed_out" else failure or "connection"


MODEL_API = "the model API"


def failed(error: BaseException, place: str = MODEL_API) -> ModelError:
    """Return our error for such an exception, whose own text goes to the log only. `place` is what was called."""
    upstream = next((str(each) for each in reversed(_chain(error)) if str(each)), None)
    if any(isinstance(each, aiohttp.ClientResponseError | aiohttp.InvalidURL) for each in _chain(error)):
        kind = kind_of(error)
        if kind != "proxy":
            named = f"{place} (ANTHROPIC_BASE_URL)" if place == MODEL_API else place
            words = f"The server at the address of {named} does not speak HTTP correctly."
            return ModelFailedError(words, kind="protocol", upstream=upstream)
    return unreachable(kind_of(error), upstream=upstream, place=place)


def unreachable(kind: str, *, upstream: str | None = None, place: str = MODEL_API) -> UnreachableError:
    """Return the error for a kind. `place` is what was called."""
    return UnreachableError(_SENTENCES[kind].replace(MODEL_API, place), kind=kind, upstream=upstream)


def _chain(error: BaseException) -> list[BaseException]:
    """Return an exception, its causes, and the system errors that aiohttp wraps."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        if isinstance(current, aiohttp.ClientConnectorError):
            chain.append(current.os_error)
        current = current.__cause__
    return chain
