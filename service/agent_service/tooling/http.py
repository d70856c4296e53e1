"""The HTTP transport under the MCP SDK: bounded answers, no redirects, checked addresses, and credentials.

It never raises: an exception would end the SDK's whole connection, with all other calls on it. A failure becomes an
error response of that one request, and is recorded in its exchange.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any

import httpcore2
import httpx2
import orjson

from agent_service import __version__
from agent_service.tooling.credentials import Credentials
from agent_service.tooling.dialing import CONNECTION_ERRORS, AddressRefusedError, open_pool
from agent_service.tooling.exchange import Exchange, Failure, current
from agent_service.tooling.secrets import CredentialsError

# Of a list of tools, and of any other answer that is not to a call.
LARGEST_LIST_BYTES = 2 * 1024 * 1024
_CONNECT_SECONDS = 5.0
_WRITE_SECONDS = 30.0
# For a free connection of the pool.
_POOL_SECONDS = 10.0
_MOST_CONNECTIONS = 256

# The SDK waits for the answer to a notification before it sends the next message.
_NOTIFICATION_SECONDS = 5.0

_CANCELLED = "notifications/cancelled"
_SESSION = "mcp-session-id"
_EVENTS = "text/event-stream"
# An event ends with an empty line. One that falls between two pieces is counted with the next event.
_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")
_JSON = {"content-type": "application/json"}
# A code of the range that JSON-RPC leaves to implementations.
_OUR_ERROR = -32099
# Sent again on a new connection, because the server did not process the request.
_SESSION_STATUSES = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND})
_UNAUTHORIZED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


class Transport(httpx2.AsyncBaseTransport):
    """Sends the requests to one server."""

    def __init__(self, url: str, credentials: Credentials, *, allow_link_local: bool) -> None:
        self._url = url
        self._credentials = credentials
        self._allow_link_local = allow_link_local
        self._pool: httpcore2.AsyncConnectionPool | None = None
        self._notices: set[asyncio.Task[httpx2.Response]] = set()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Return the response of the server, or an error response in the form of JSON-RPC."""
        body = await request.aread()
        exchange = current.get() or Exchange(None, LARGEST_LIST_BYTES)
        message = orjson.loads(body) if request.method == "POST" else {}
        if message.get("method") == _CANCELLED:
            # A server that hangs must not delay the messages of other calls.
            self._notify(request, body, exchange.caller_token)
            return httpx2.Response(202)
        if request.method == "GET":
            # A stream for notifications of the server stays open; a stream that resumes the answer of a call does not.
            exchange = exchange if exchange.is_call else Exchange(None, LARGEST_LIST_BYTES)
        elif "id" not in message:
            exchange = _short(exchange.caller_token)
        return await self._answer(request, body, exchange)

    async def aclose(self) -> None:
        """Close all connections."""
        for task in self._notices:
            task.cancel()
        if self._pool is not None:
            await self._pool.aclose()

    def _notify(self, request: httpx2.Request, body: bytes, caller_token: str | None) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(request, body, _short(caller_token)))
        self._notices.add(task)
        task.add_done_callback(self._notices.discard)

    async def _answer(self, request: httpx2.Request, body: bytes, exchange: Exchange) -> httpx2.Response:
        try:
            async with exchange.bounded():
                return await self._authenticated(request, body, exchange)
        except TimeoutError:
            exchange.fail(Failure.TIMED_OUT)
        except CredentialsError as error:
            exchange.fail(Failure.CREDENTIALS, str(error), error)
        except AddressRefusedError as error:
            exchange.fail(Failure.ADDRESS_REFUSED, str(error))
        except (*CONNECTION_ERRORS, OSError) as error:
            exchange.fail(Failure.LOST if exchange.sent else Failure.UNREACHABLE, _described(error), error)
        return _error(exchange)

    async def _authenticated(self, request: httpx2.Request, body: bytes, exchange: Exchange) -> httpx2.Response:
        headers = await self._credentials.headers(exchange.caller_token)
        response = await self._send(request, body, headers, exchange)
        if response.status == HTTPStatus.UNAUTHORIZED and self._credentials.can_renew(headers, exchange.caller_token):
            await response.aclose()
            headers = await self._credentials.headers(exchange.caller_token)
            response = await self._send(request, body, headers, exchange)
        try:
            return await self._converted(request, response, exchange)
        except BaseException:
            await response.aclose()
            raise

    async def _send(
        self, request: httpx2.Request, body: bytes, headers: Mapping[str, str], exchange: Exchange
    ) -> httpcore2.Response:
        if self._pool is None:
            # Reads the certificates, which may be missing.
            self._pool = open_pool(
                self._url, allow_link_local=self._allow_link_local, most_connections=_MOST_CONNECTIONS
            )
        sent = {name.lower(): value for name, value in request.headers.items()}
        sent |= {**headers, "accept-encoding": "identity", "user-agent": f"portside/{__version__}"}

        async def trace(event: str, _: Mapping[str, Any]) -> None:
            if event.endswith("send_request_headers.started"):
                exchange.sent = True

        return await self._pool.handle_async_request(
            httpcore2.Request(
                request.method,
                str(request.url),
                headers=[(name.encode(), value.encode()) for name, value in sent.items()],
                content=body,
                extensions={
                    "trace": trace,
                    "timeout": {"connect": _CONNECT_SECONDS, "write": _WRITE_SECONDS, "pool": _POOL_SECONDS},
                },
            )
        )

    async def _converted(
        self, request: httpx2.Request, response: httpcore2.Response, exchange: Exchange
    ) -> httpx2.Response:
        received = httpx2.Headers(response.headers)
        status = exchange.status = response.status
        kept = {name: received[name] for name in ("content-type", _SESSION) if name in received}
        if status < HTTPStatus.BAD_REQUEST and not exchange.is_call:
            exchange.failure = None
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            exchange.fail(Failure.REDIRECTED)
        elif received.get("content-encoding", "identity").lower() != "identity":
            exchange.fail(Failure.UNREADABLE, "the answer is compressed")
        elif status < HTTPStatus.MULTIPLE_CHOICES and received.get("content-type", "").lower().startswith(_EVENTS):
            return httpx2.Response(status, headers=kept, stream=_Events(response, exchange))
        else:
            content = await _whole(response, exchange)
            if content is not None:
                await response.aclose()
                if status >= HTTPStatus.BAD_REQUEST and (
                    failure := _failure(status, content, has_session=_SESSION in request.headers)
                ):
                    exchange.fail(failure, f"status {status}")
                return httpx2.Response(status, headers=kept, content=content)
        await response.aclose()
        return _error(exchange)


class _Events(httpx2.AsyncByteStream):
    """A stream of events, which ends at the deadline of its exchange. The SDK bounds each event."""

    def __init__(self, response: httpcore2.Response, exchange: Exchange) -> None:
        self._response = response
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = self._response.aiter_stream()
        # The last complete event, of which the SDK makes an object, and the one that arrives.
        complete = arriving = 0
        while True:
            try:
                async with self._exchange.bounded():
                    piece = await anext(pieces, None)
            except TimeoutError:
                self._exchange.fail(Failure.TIMED_OUT)
                raise httpx2.ReadTimeout("the call has ended") from None
            except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException) as error:
                self._exchange.fail(Failure.LOST, _described(error))
                raise httpx2.ReadError(_described(error)) from error
            if piece is None:
                # The reader stops after the answer, so the stream ended before it.
                self._exchange.fail(Failure.LOST, "the stream ended")
                return
            arriving += len(piece)
            if not self._exchange.hold(complete + arriving):
                raise httpx2.ReadError("the answers in progress are too large together")
            if any(end in piece for end in _ENDS):
                complete, arriving = arriving, 0
            yield piece

    async def aclose(self) -> None:
        await self._response.aclose()


def _short(caller_token: str | None) -> Exchange:
    """Return the bounds of a message that has no answer."""
    return Exchange(asyncio.get_running_loop().time() + _NOTIFICATION_SECONDS, LARGEST_LIST_BYTES, caller_token)


async def _whole(response: httpcore2.Response, exchange: Exchange) -> bytes | None:
    """Return the body of a response; None if it is larger than the exchange allows, of which no more is read."""
    content = bytearray()
    async for piece in response.aiter_stream():
        content += piece
        if len(content) > exchange.most_bytes:
            exchange.fail(Failure.TOO_LARGE)
            return None
        if not exchange.hold(len(content)):
            return None
    return bytes(content)


def _failure(status: int, content: bytes, *, has_session: bool) -> Failure | None:
    """Return what a status of failure means; None if the server's own error in the body says more."""
    if status in _UNAUTHORIZED:
        return Failure.UNAUTHORIZED
    # Servers that lost their sessions answer with 404, as specified, or with 400 and words about the session.
    if (
        has_session
        and status in _SESSION_STATUSES
        and (status == HTTPStatus.NOT_FOUND or b"session" in content.lower())
    ):
        return Failure.SESSION_LOST
    if b'"jsonrpc"' in content:
        return None
    return Failure.FAILED if status >= HTTPStatus.INTERNAL_SERVER_ERROR else Failure.REFUSED


def _error(exchange: Exchange) -> httpx2.Response:
    message = "" if exchange.failure is None else exchange.failure.name
    error = {"jsonrpc": "2.0", "id": 0, "error": {"code": _OUR_ERROR, "message": message}}
    return httpx2.Response(503, headers=_JSON, content=orjson.dumps(error))


def _described(error: Exception) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
