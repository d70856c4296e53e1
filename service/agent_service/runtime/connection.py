"""HTTP connections to the runtime. Everything that it answers is bounded, and every failure is a `runtime.errors`."""

import asyncio
from collections.abc import Mapping
from typing import Self

import aiohttp
import yarl

from agent_service.agent.errors import ModelError
from agent_service.network.errors import failure_of
from agent_service.runtime import errors

# The runtime is in the same pod, or at least in the same network.
CONNECT_SECONDS = 5.0

# Shorter than the idle timeouts of common servers (Gunicorn 2 s; Node.js and uvicorn 5 s), so that this end closes the
# connection: a request must not meet a connection that is being closed.
_KEEP_ALIVE_SECONDS = 1.5

# A stream buffers twice this for a client that reads slowly (aiohttp's low and high water marks).
_READ_BUFFER_BYTES = 2**16

# Events must not wait in a compressor, and uncompressed data cannot be a decompression bomb.
_IDENTITY = {"Accept-Encoding": "identity"}

# Of the body of an error, only this much is read, for the log.
_ERROR_BYTES = 2**12
_ERROR_SECONDS = 1.0

# After its last event a runtime ends the body. A connection on which that happens in time is reused.
_SETTLE_SECONDS = 1.0

_LONGEST_RETRY_AFTER_SECONDS = 3600

_ERRORS = (aiohttp.ClientError, OSError)  # TimeoutError is an OSError


class Connection:
    """The connections to the runtime: without cookies, proxies and redirects, limited by the requests in flight."""

    def __init__(self, url: str) -> None:
        """Set up the connections. `url` is the address of the runtime without a path, as in the settings."""
        self.url = url
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, content: bytes | None = None
    ) -> "Reply":
        """Send a request, and return the reply when its status is 2xx. The caller closes the reply.

        Args:
            method: the HTTP method.
            path: path and query; it begins with `/`.
            headers: headers besides `Accept-Encoding`, which is always `identity`.
            content: the body.

        Raises:
            ModelError: an UnreachableError if the reply has not started, such that the request can be repeated; another
                one for any other status, for a server that does not speak HTTP.
        """
        try:
            answer = await (self._session or self._open()).request(
                method,
                yarl.URL(self.url + path, encoded=True),
                data=content,
                headers={**headers, **_IDENTITY} if headers else _IDENTITY,
                allow_redirects=False,
            )
        except _ERRORS as error:
            raise failed(error) from error
        if 200 <= answer.status < 300:  # noqa: PLR2004
            return Reply(answer)
        try:
            raise errors.of_status(answer.status, upstream=await _excerpt(answer), retry_after=_retry_after(answer))
        finally:
            answer.close()

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        # A session belongs to the event loop that runs at its creation. At the first request there is one.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            read_bufsize=_READ_BUFFER_BYTES,
        )
        return self._session


class Reply:
    """A reply that has started. Iterate over its body, in the pieces in which they arrive, or `read` it."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self._read = answer.content.readany

    @property
    def status(self) -> int:
        """The HTTP status, from 200 to 299."""
        return self._answer.status

    @property
    def media_type(self) -> str:
        """`Content-Type` in lower case and without parameters; empty if the header is missing."""
        return self._answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, by names in any case."""
        return self._answer.headers

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._read()
        except _ERRORS as error:
            raise errors.broke_off(upstream=str(error) or type(error).__name__) from error
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def read(self, most_bytes: int) -> bytes:
        """Return the whole body.

        Raises:
            ModelError: the body is larger than `most_bytes`, or the runtime broke it off.
        """
        chunks, left = [], most_bytes
        async for chunk in self:
            left -= len(chunk)
            if left < 0:
                raise errors.too_large(most_bytes)
            chunks.append(chunk)
        return b"".join(chunks)

    def close(self) -> None:
        """End the reply. Before the end of its body, this closes the connection, which ends the runtime's work."""
        self._answer.close()

    def settle(self) -> None:
        """End the reply after its last event. Keep its connection if the body ends soon."""
        if self._answer.content.is_eof():
            self._answer.close()
        else:
            asyncio.get_running_loop().call_later(_SETTLE_SECONDS, self._answer.close)


async def _excerpt(answer: aiohttp.ClientResponse) -> str | None:
    """Return the beginning of the body of an error, as far as it arrives soon."""
    excerpt = b""
    try:
        async with asyncio.timeout(_ERROR_SECONDS):
            while len(excerpt) < _ERROR_BYTES and (chunk := await answer.content.readany()):
                excerpt += chunk
    except _ERRORS:
        pass  # what has arrived is enough for the log
    return excerpt[:_ERROR_BYTES].decode("utf-8", "replace") or None


def _retry_after(answer: aiohttp.ClientResponse) -> int | None:
    value = answer.headers.get("Retry-After", "").strip()
    if not (value.isascii() and value.isdecimal()):
        return None
    return min(int(value[:9]), _LONGEST_RETRY_AFTER_SECONDS)


def failed(error: Exception) -> ModelError:
    """Return our error for a request to which aiohttp or the operating system reports that there is no reply."""
    upstream = str(error) or type(error).__name__
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.InvalidURL):
        return errors.not_http(upstream=upstream)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return errors.unreachable("disconnected", upstream=upstream)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return errors.unreachable("connect_timeout", upstream=upstream)
    causes = [error, *([error.os_error] if isinstance(error, aiohttp.ClientConnectorError) else [])]
    failure = failure_of(causes)
    return errors.unreachable(
        "connect_timeout" if failure == "timed_out" else failure or "connection", upstream=upstream
    )
