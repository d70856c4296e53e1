"""The transport to the model API: one aiohttp session, for the SDK and for requests that do not need the SDK.

The SDK accepts any `httpx2.AsyncClient`. Its own handles auth flows, cookies, hooks and mounts, none of which this API
needs. The SDK's own work for each request costs as much as the request itself. Nearly all requests succeed at once, so
the first attempt bypasses the SDK. Only a failed one is passed to the SDK, as the outcome of the SDK's first attempt;
its retries and errors then work as usual.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx2
from yarl import URL

from agent_service.agent.claude.connection import CertificateFileError
from agent_service.agent.claude.endpoint import AnyEndpoint, Framing
from agent_service.agent.claude.retry_after import bound_wait
from agent_service.agent.claude.session import UNCOMPRESSED, open_session

# An error, or an answer that is not streamed, is short and arrives at once. Of any other, only this much is read.
LARGEST_WHOLE_BYTES = 2**16
WHOLE_SECONDS = 5.0

# After the last event come the end of the chunk and, from gateways, `[DONE]`. A connection that has received both
# within this time is reused.
_SETTLE_SECONDS = 1.0

EVENTS = "text/event-stream"

# 429: too many of our own requests; 529: too many requests of all users (Claude docs, "Errors").
_THROTTLED = frozenset({429, 529})


@dataclass(frozen=True, slots=True)
class Failed:
    """A first attempt that the SDK must handle: an unsuccessful response, or an error of the transport."""

    outcome: aiohttp.ClientResponse | Exception

    @property
    def throttled(self) -> bool:
        """Whether the model API rejected the request because it receives too many."""
        return not isinstance(self.outcome, Exception) and self.outcome.status in _THROTTLED

    @property
    def was_idle(self) -> bool:
        """Whether an open connection was lost, as when the other side has just closed one that was idle."""
        lost = isinstance(self.outcome, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError)
        return lost and not isinstance(self.outcome, aiohttp.ClientConnectorError)


class Wire(httpx2.AsyncClient):
    """The pool of connections, limited only by the number of requests in flight."""

    def __init__(self, endpoint: AnyEndpoint) -> None:
        # The parent's transport is never used; its default would load all certificates.
        super().__init__(transport=httpx2.AsyncBaseTransport())
        self._endpoint = endpoint
        self._session: aiohttp.ClientSession | None = None

    async def attempt(self, url: str, headers: Mapping[str, str], content: bytes) -> "Body | Failed":
        """Send a request; return the body of its response, or the failure to pass to the SDK with `replaying`."""
        try:
            answer = await (self._session or self._open()).post(
                # Encoded already: a signature is that of exactly this path.
                URL(url, encoded=True),
                data=content,
                headers={**headers, **UNCOMPRESSED},
                allow_redirects=False,
            )
        except _ERRORS as error:
            return Failed(error)
        return self._body(answer) if _is_success(answer) else Failed(answer)

    @contextmanager
    def replaying(self, first: Failed) -> Iterator[None]:
        """Make `first` the outcome of the first attempt that the SDK makes within this block."""
        token = _first_attempt.set(first)
        try:
            yield
        finally:
            _first_attempt.reset(token)

    def build_request(self, method: str, url: httpx2.URL | str, **given: Any) -> httpx2.Request:
        """Return the request with exactly the SDK's headers and body."""
        return _Request(method, url, headers=given["headers"], content=given["content"], timeout=given["timeout"])

    async def send(self, request: httpx2.Request, *, stream: bool = False, **_: Any) -> httpx2.Response:
        """Return the response, read to its end unless `stream` is set.

        Raises:
            httpx2.TransportError: as the parent does, because the SDK's retries and errors expect it.
        """
        try:
            answer = _take_first_attempt() or await (self._session or self._open()).request(
                request.method,
                URL(str(request.url), encoded=True),
                data=request.content or None,
                headers=[*request.headers.multi_items(), *UNCOMPRESSED.items()],
                timeout=request.extensions["timeout"],
                allow_redirects=False,
            )
        except _ERRORS as error:
            raise self._as_httpx2(error) from error
        if not _is_success(answer):
            return await self._failed(answer, request)
        headers = _decoded(answer)
        response = httpx2.Response(
            answer.status, headers=headers, stream=self._body(answer, whole=not stream), request=request
        )
        if not stream:
            try:
                await response.aread()
            except BaseException:
                await response.aclose()
                raise
        return response

    async def _failed(self, answer: aiohttp.ClientResponse, request: httpx2.Request) -> httpx2.Response:
        """Return an unsuccessful response in the form of the Messages API."""
        body, content = Body(answer, whole=True), b""
        try:
            async for chunk in body:
                content += chunk
        except httpx2.TransportError:
            pass  # What was received of it must be enough.
        finally:
            await body.aclose()
        found = self._endpoint.failure(answer.status, answer.headers, content)
        headers = [pair for pair in _decoded(answer) if pair[0].lower() != b"content-length"]
        response = httpx2.Response(found.status, headers=headers, content=found.content, request=request)
        bound_wait(response)
        return response

    def _body(self, answer: aiohttp.ClientResponse, *, whole: bool = False) -> "Body":
        return Body(answer, whole=whole, framing=self._endpoint.framing(_media_type(answer)))

    async def aclose(self) -> None:
        """Close all connections."""
        await super().aclose()
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        self._session = open_session(self._endpoint.address)
        return self._session

    def _as_httpx2(self, error: Exception) -> httpx2.TransportError:
        if (
            isinstance(error, aiohttp.ClientConnectorDNSError)
            and error.host != urlsplit(self._endpoint.address).hostname
        ):
            # The proxy's name is the only other one that is resolved here.
            return httpx2.ProxyError(str(error))
        return _as_httpx2(error)


class _Request(httpx2.Request):
    """A request whose parts are already complete; the parent would parse and copy each of them."""

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
    """The bytes of a response, in the pieces in which they arrive.

    A response read as a `whole` is cut off at LARGEST_WHOLE_BYTES and WHOLE_SECONDS. The reader of a stream limits it.
    A `framing` unpacks it first.
    """

    def __init__(self, answer: aiohttp.ClientResponse, *, whole: bool = False, framing: Framing | None = None) -> None:
        self._answer = answer
        self._framing = framing
        self._left = LARGEST_WHOLE_BYTES if whole else None
        self._until = asyncio.get_running_loop().time() + WHOLE_SECONDS if whole else None

    @property
    def media_type(self) -> str:
        """`Content-Type` in lower case and without parameters; that of event streams if the header is missing."""
        return _media_type(self._answer) if self._framing is None else EVENTS

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while True:
            try:
                chunk = await (self._answer.content.readany() if self._left is None else self._read_some())
            except _ERRORS as error:
                raise _as_httpx2(error) from error
            if not chunk:
                raise StopAsyncIteration
            if self._framing is not None:
                chunk = self._framing(chunk)
            if chunk:
                return chunk

    async def aclose(self) -> None:
        # At the end of the response the connection is already back in the pool. Before that, closing it ends the
        # model's work at once.
        self._answer.close()

    def settle(self) -> None:
        """Close a response after its last event, and keep its connection if the remaining bytes arrive soon."""
        if self._answer.content.is_eof():
            self._answer.close()
        else:
            asyncio.get_running_loop().call_later(_SETTLE_SECONDS, self._answer.close)

    async def _read_some(self) -> bytes:
        """Return the next bytes, or empty bytes when a limit is reached: what was read so far must be enough."""
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


def _decoded(answer: aiohttp.ClientResponse) -> list[tuple[bytes, bytes]]:
    """Return the headers of a response. aiohttp has already decoded the content, which must not be decoded twice."""
    return [pair for pair in answer.raw_headers if pair[0].lower() != b"content-encoding"]


def _media_type(answer: aiohttp.ClientResponse) -> str:
    return answer.headers.get("Content-Type", EVENTS).partition(";")[0].strip().lower()


def _is_success(answer: aiohttp.ClientResponse) -> bool:
    return 200 <= answer.status < 300  # noqa: PLR2004


_ERRORS = (aiohttp.ClientError, OSError)  # TimeoutError is an OSError

# The first match wins, so subclasses come before their parents.
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
