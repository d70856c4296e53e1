"""Requests and WebSockets to the runtime's own HTTP application. Every failure before an answer is a ModelError."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import TypeVar

import aiohttp
import yarl
from multidict import CIMultiDict

from agent_service.network.errors import failure_of
from agent_service.runtime import errors
from agent_service.runtime.connection import CONNECT_SECONDS, failed
from agent_service.runtime.proxy.headers import Headers

# A container that ended is started again within seconds, at first. Longer waits are for the client to decide about.
_RESTART_SECONDS = 30.0
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0

# A response buffers twice this for a client that reads slowly (aiohttp's low and high water marks).
_READ_BUFFER_BYTES = 2**16

# As this service accepts them.
_LARGEST_HEAD_BYTES = 2**16

# uvicorn's default for messages from clients.
LARGEST_MESSAGE_BYTES = 16 * 2**20

# While draining ends, there are two seconds for everything that is left.
_CLOSE_SECONDS = 1.0

# RFC 9110, 9.2.2: only these may be sent again when it is unknown whether the first one had an effect.
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})

# aiohttp must add nothing that the client did not send.
_NOT_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")

_ERRORS = (aiohttp.ClientError, OSError)

# The headers of the last answer to the handshake of a WebSocket in this task.
_handshake: ContextVar[Headers] = ContextVar("handshake", default=())

T = TypeVar("T")


class Upstream:
    """The connections to the runtime.

    Each request has a connection of its own, so that no answer can belong to the request of another client, and none
    meets a connection that the runtime is closing. Cookies are not kept, redirects are not followed, and bodies are
    not decoded.
    """

    def __init__(self, url: str, *, answer_seconds: float) -> None:
        """Take the address of the runtime without a path, and the time until an answer must start."""
        self._url = url.rstrip("/")
        self._answer_seconds = answer_seconds
        self._opened: aiohttp.ClientSession | None = None

    async def request(
        self, method: str, target: str, headers: CIMultiDict[str], body: AsyncIterator[bytes] | None
    ) -> aiohttp.ClientResponse:
        """Send a request, and return the answer once it has started. The caller closes it.

        A request that the runtime cannot have received is sent again while the runtime restarts, for 30 s at most.

        Args:
            method: the HTTP method.
            target: path and query; it begins with `/`.
            headers: all headers but `Host`. `Content-Length` must be there if the length of the body is known.
            body: the body, if there is one. Errors that it raises are raised instead of the runtime's.

        Raises:
            ModelError: there is no answer.
        """

        async def send() -> aiohttp.ClientResponse:
            return await self._session().request(
                method,
                yarl.URL(self._url + target, encoded=True),
                headers=headers,
                data=body,
                skip_auto_headers=_NOT_ADDED,
                allow_redirects=False,
            )

        return await self._through_restarts(send, repeatable=body is None and method in _REPEATABLE)

    async def websocket(
        self, target: str, headers: CIMultiDict[str], subprotocols: Sequence[str]
    ) -> tuple[aiohttp.ClientWebSocketResponse, Headers]:
        """Open a WebSocket, and return it with the headers of the answer. The caller closes it.

        Raises:
            aiohttp.WSServerHandshakeError: the runtime answered without an upgrade.
            ModelError: there is no answer.
        """

        async def open_() -> tuple[aiohttp.ClientWebSocketResponse, Headers]:
            opened = await self._session().ws_connect(
                yarl.URL(self._url + target, encoded=True),
                headers=headers,
                protocols=subprotocols,
                max_msg_size=LARGEST_MESSAGE_BYTES,
                timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_SECONDS),
            )
            return opened, _handshake.get()

        return await self._through_restarts(open_, repeatable=True)

    async def close(self) -> None:
        """Close all connections."""
        if self._opened is not None:
            await self._opened.close()

    async def _through_restarts(self, attempt: Callable[[], Awaitable[T]], *, repeatable: bool) -> T:
        # The last refusal is reported rather than a timeout.
        until = time.monotonic() + min(_RESTART_SECONDS, self._answer_seconds)
        pause = _FIRST_PAUSE_SECONDS
        try:
            async with asyncio.timeout(self._answer_seconds):
                while True:
                    try:
                        return await attempt()
                    except aiohttp.WSServerHandshakeError:
                        raise
                    except _ERRORS as error:
                        if not _can_repeat(error, repeatable=repeatable) or time.monotonic() + pause > until:
                            raise
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        except aiohttp.WSServerHandshakeError:
            raise
        except TimeoutError:
            raise errors.timed_out() from None
        except _ERRORS as error:
            raise failed(error.error if isinstance(error, _BrokenError) else error) from error

    def _session(self) -> aiohttp.ClientSession:
        # A session belongs to the event loop that runs at its creation. At the first request there is one.
        if self._opened is None:
            self._opened = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                read_bufsize=_READ_BUFFER_BYTES,
                max_line_size=_LARGEST_HEAD_BYTES,
                max_field_size=_LARGEST_HEAD_BYTES,
                middlewares=(_stay,),
            )
        return self._opened


class _BrokenError(aiohttp.ClientError):
    """The connection ended before the answer began."""

    def __init__(self, error: aiohttp.ClientError) -> None:
        super().__init__(str(error))
        self.error = error


async def _stay(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a request again, with what is left of its body, and a WebSocket from redirects.

    `ws_connect` has no parameter for the latter, and does not return the headers.
    """
    try:
        response = await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _BrokenError(error) from error
    if request.headers.get("Upgrade") != "websocket":
        return response
    _handshake.set(response.raw_headers)
    if 300 <= response.status < 400:  # noqa: PLR2004
        response.close()
        raise aiohttp.WSServerHandshakeError(response.request_info, (), status=response.status)
    return response


def _can_repeat(error: Exception, *, repeatable: bool) -> bool:
    """Return whether a request can be sent again: no connection was made, or a second one does no harm."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return failure_of([error, error.os_error]) == "connection_refused"
    return repeatable and isinstance(error, _BrokenError)
