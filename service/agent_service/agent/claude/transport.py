"""The way to the model API: one aiohttp session, for the SDK and for the requests that need nothing of it.

The SDK takes any `httpx2.AsyncClient`; its own walks through auth flows, cookies, hooks and mounts, none of which this
one API needs. And what the SDK itself does for each request costs as much as the request. Nearly all of them succeed
at once, so the first attempt goes out directly, and only one that failed is handed to the SDK: as the outcome of its
own first attempt, on which its retries and errors then work as ever.
"""

import asyncio
import email.utils
import math
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx2
import structlog

from agent_service.agent.claude.connection import CertificateFileError
from agent_service.network.proxy import ProxyError, proxy_for

_log = structlog.get_logger(__name__)

# Below the idle timeouts of common load balancers (60 s), so that we are the ones that close.
_KEEP_ALIVE_SECONDS = 30.0

# A pod that has no answer to its SYN within this time has no route; waiting longer only holds the client.
CONNECT_SECONDS = 5.0

# The SDK sleeps for as long as `Retry-After` says. Up to this many seconds that beats an error, beyond it the client
# is better told at once.
LONGEST_RETRY_WAIT_SECONDS = 2.0

# What a client is told to wait at most. The limits of the model API are by the minute.
LONGEST_RETRY_AFTER_SECONDS = 3600.0

# An error, or an answer that is not streamed, is short and there at once. Of what is not, this much is read.
LARGEST_WHOLE_BYTES = 2**16
WHOLE_SECONDS = 5.0

# What a stream holds in memory for a client that reads slowly: twice this (aiohttp's low and high water).
_READ_BUFFER_BYTES = 2**16

# Behind the last event come a chunk's end and, from gateways, `[DONE]`. A connection that has had both by then is used
# again.
_SETTLE_SECONDS = 1.0

# Events must not wait in a compressor, and what is not compressed cannot explode.
_HEADERS = {"Accept-Encoding": "identity"}

# Too many of ours, too many of everybody's (Claude docs, "Errors").
_THROTTLED = frozenset({429, 529})


@dataclass(frozen=True, slots=True)
class Failed:
    """A first attempt that the SDK has to judge: an answer that is no success, or an error on the way."""

    outcome: aiohttp.ClientResponse | Exception

    @property
    def throttled(self) -> bool:
        """Whether the model API turned the request away because it has too many."""
        return not isinstance(self.outcome, Exception) and self.outcome.status in _THROTTLED


class Wire(httpx2.AsyncClient):
    """The pool of connections; it has no bound but the requests in flight."""

    def __init__(self, base_url: str) -> None:
        # The parent's transport is never used; its own would load all certificates.
        super().__init__(transport=httpx2.AsyncBaseTransport())
        self._base_url_text = base_url
        self._session: aiohttp.ClientSession | None = None

    async def attempt(self, url: str, headers: Mapping[str, str], content: bytes) -> "Body | Failed":
        """Send a request, and give the body of its answer, or what `handing` is to tell the SDK."""
        try:
            answer = await (self._session or self._open()).post(
                url, data=content, headers={**headers, **_HEADERS}, allow_redirects=False
            )
        except _ERRORS as error:
            return Failed(error)
        return Body(answer) if _is_success(answer) else Failed(answer)

    @contextmanager
    def handing(self, first: Failed) -> Iterator[None]:
        """Within this block, `first` is the outcome of the first attempt that the SDK makes."""
        token = _first_attempt.set(first)
        try:
            yield
        finally:
            _first_attempt.reset(token)

    def build_request(self, method: str, url: httpx2.URL | str, **given: Any) -> httpx2.Request:
        """Make the request, with the SDK's headers and body and no others."""
        return _Request(method, url, headers=given["headers"], content=given["content"], timeout=given["timeout"])

    async def send(self, request: httpx2.Request, *, stream: bool = False, **_: Any) -> httpx2.Response:
        """Give the answer, read to its end unless it is to be streamed.

        Raises:
            httpx2.TransportError: as the parent does; the SDK's retries and errors are made for it.
        """
        try:
            answer = _take_first_attempt() or await (self._session or self._open()).request(
                request.method,
                str(request.url),
                data=request.content or None,
                headers=[*request.headers.multi_items(), *_HEADERS.items()],
                timeout=request.extensions["timeout"],
                allow_redirects=False,
            )
        except _ERRORS as error:
            raise self._as_httpx2(error) from error
        # aiohttp has undone the encoding; nobody is to do it again.
        headers = [pair for pair in answer.raw_headers if pair[0].lower() != b"content-encoding"]
        body = Body(answer, whole=not (stream and _is_success(answer)))
        response = httpx2.Response(answer.status, headers=headers, stream=body, request=request)
        if not response.is_success:
            _bound_wait(response)
        if not stream:
            try:
                await response.aread()
            except BaseException:
                await response.aclose()
                raise
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        await super().aclose()
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        # A session belongs to the event loop that runs when it is made: at the first request there is one.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS, ssl=self._certificates())
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=_proxy(self._base_url_text),
            timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS),
            read_bufsize=_READ_BUFFER_BYTES,
        )
        return self._session

    def _certificates(self) -> ssl.SSLContext | bool:
        # httpx2's: those of SSL_CERT_FILE or SSL_CERT_DIR, else certifi's, since a slim image has none of its own.
        try:
            return httpx2.create_ssl_context() if self._base_url_text.startswith("https:") else True
        except OSError as error:
            raise CertificateFileError(str(error)) from error

    def _as_httpx2(self, error: Exception) -> httpx2.TransportError:
        if isinstance(error, aiohttp.ClientConnectorDNSError) and error.host != urlsplit(self._base_url_text).hostname:
            # The only other name that is resolved here is that of the proxy.
            return httpx2.ProxyError(str(error))
        return _as_httpx2(error)


class _Request(httpx2.Request):
    """A request whose parts are whole already; the parent would parse and copy each of them."""

    def __init__(
        self,
        method: str,
        url: httpx2.URL | str,
        *,
        headers: httpx2.Headers,
        content: bytes | None,
        timeout: httpx2.Timeout | float | None,
    ) -> None:
        self.method = method.upper()
        self.url = url if isinstance(url, httpx2.URL) else httpx2.URL(url)
        self.headers = headers
        limits = timeout if isinstance(timeout, httpx2.Timeout) else httpx2.Timeout(timeout)
        self.extensions = {"timeout": aiohttp.ClientTimeout(sock_connect=limits.connect, sock_read=limits.read)}
        self.stream = httpx2.ByteStream(content or b"")
        self._content = content or b""


class Body(httpx2.AsyncByteStream):
    """An answer's bytes, in the pieces in which they arrive.

    One that is read as a `whole` is cut at LARGEST_WHOLE_BYTES and WHOLE_SECONDS; of a stream, its reader takes care.
    """

    def __init__(self, answer: aiohttp.ClientResponse, *, whole: bool = False) -> None:
        self._answer = answer
        self._left = LARGEST_WHOLE_BYTES if whole else None
        self._until = asyncio.get_running_loop().time() + WHOLE_SECONDS if whole else None

    @property
    def media_type(self) -> str:
        """`Content-Type` in lower case and without parameters; that of event streams when there is none."""
        value = self._answer.headers.get("Content-Type", "text/event-stream")
        return value.partition(";")[0].strip().lower()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await (self._answer.content.readany() if self._left is None else self._read_some())
        except _ERRORS as error:
            raise _as_httpx2(error) from error
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        # At the end of its answer the connection is back in the pool already; before that, closing it ends the model's
        # work at once.
        self._answer.close()

    def settle(self) -> None:
        """Close an answer that has had its last event, and keep its connection if what is left arrives soon."""
        if self._answer.content.is_eof():
            self._answer.close()
        else:
            asyncio.get_running_loop().call_later(_SETTLE_SECONDS, self._answer.close)

    async def _read_some(self) -> bytes:
        """Return the next bytes; none when the bounds are reached. What was read so far has to do."""
        if not self._left:
            return b""
        try:
            async with asyncio.timeout_at(self._until):
                chunk = await self._answer.content.readany()
        except TimeoutError:
            return b""
        chunk = chunk[: self._left]
        self._left -= len(chunk)
        return chunk


_first_attempt: ContextVar[Failed | None] = ContextVar("first_attempt", default=None)


def _take_first_attempt() -> aiohttp.ClientResponse | None:
    first = _first_attempt.get()
    if first is None:
        return None
    _first_attempt.set(None)
    if isinstance(first.outcome, Exception):
        raise first.outcome
    return first.outcome


def _bound_wait(response: httpx2.Response) -> None:
    """Have the SDK, which sleeps for as long as the headers say, see a wait that is short, or not retry."""
    wait = _wait_seconds(response)
    for name in ("retry-after-ms", "retry-after"):
        response.headers.pop(name, None)
    if wait is None:
        return
    response.headers["retry-after"] = str(wait)
    if wait > LONGEST_RETRY_WAIT_SECONDS:
        response.headers["x-should-retry"] = "false"


def retry_after(response: httpx2.Response) -> int | None:
    """Return `Retry-After` in whole seconds, rounded up and at most an hour; None when absent or of no meaning."""
    wait = _wait_seconds(response)
    return None if wait is None else math.ceil(wait)


def _wait_seconds(response: httpx2.Response) -> float | None:
    milliseconds = _number(response.headers.get("retry-after-ms", ""))
    value = response.headers.get("retry-after", "")
    wait = _number(value) if milliseconds is None else milliseconds / 1000
    if wait is None:
        wait = _seconds_until(value)
    return None if wait is None else min(max(0.0, wait), LONGEST_RETRY_AFTER_SECONDS)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return None if math.isnan(number) else number


def _seconds_until(date: str) -> float | None:
    try:
        when = email.utils.parsedate_to_datetime(date)
        # A date that names no zone is UTC (RFC 9110, 5.6.7).
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - time.time()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _is_success(answer: aiohttp.ClientResponse) -> bool:
    return 200 <= answer.status < 300  # noqa: PLR2004


_ERRORS = (aiohttp.ClientError, OSError)  # TimeoutError is an OSError

# The first that fits: subclasses stand before their parents.
_HTTPX2_OF: tuple[tuple[type[Exception], type[httpx2.TransportError]], ...] = (
    (CertificateFileError, httpx2.ConnectError),
    (aiohttp.ConnectionTimeoutError, httpx2.ConnectTimeout),
    (TimeoutError, httpx2.ReadTimeout),
    (aiohttp.ClientProxyConnectionError, httpx2.ProxyError),
    (aiohttp.ClientHttpProxyError, httpx2.ProxyError),
    (aiohttp.ClientPayloadError, httpx2.ReadError),
    (aiohttp.InvalidURL, httpx2.UnsupportedProtocol),
    (aiohttp.ClientConnectionError, httpx2.ConnectError),
    (aiohttp.ClientError, httpx2.RemoteProtocolError),
    (OSError, httpx2.ConnectError),
)


def _as_httpx2(error: Exception) -> httpx2.TransportError:
    return next(kind for theirs, kind in _HTTPX2_OF if isinstance(error, theirs))(str(error))


def _proxy(address: str) -> str | None:
    """Give the proxy that the environment wants for an address (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY)."""
    try:
        return proxy_for(address, any_scheme=True)
    except ProxyError as error:
        _log.warning("Proxy cannot be used, the model API is asked directly", reason=str(error))
        return None
