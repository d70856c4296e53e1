"""Runs an ASGI application for a request of aiohttp's server. No library that is kept does that."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from aiohttp import web
from multidict import CIMultiDict

ANSWERED = web.RequestKey("answered", bool)
"""Key of a request whose caller may leave before the end of the response: the answer is complete, or has no end."""

Message = MutableMapping[str, Any]
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

# Those of one connection (RFC 9110, 7.6.1), and the length: aiohttp sets them itself.
_NOT_PASSED = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding"})


async def respond(
    app: Application,
    request: web.BaseRequest,
    body: bytes,
    *,
    state: dict[str, Any],
    headers: dict[str, str],
) -> web.StreamResponse:
    """Run the application for a request, and return its response, which has been sent as far as it is a stream.

    A caller that reads slowly slows the application down. One that disconnects cancels it: aiohttp cancels the task.

    Args:
        app: the application.
        request: the request, whose body has been read.
        body: the body.
        state: attributes of the request, for the application.
        headers: further headers of the response.

    Raises:
        ConnectionError: when the caller has left.
    """
    exchange = _Exchange(request, body, headers)
    await app(_scope(request, state), exchange.receive, exchange.send)
    return exchange.response()


def _scope(request: web.BaseRequest, state: dict[str, Any]) -> Message:
    url = request.rel_url
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": url.path,
        "raw_path": url.raw_path.encode(),
        "query_string": url.raw_query_string.encode(),
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.raw_headers],
        "client": None,
        "server": None,
        "state": state,
    }


class _Exchange:
    """The messages of one request and its response."""

    def __init__(self, request: web.BaseRequest, body: bytes, headers: dict[str, str]) -> None:
        self._request = request
        self._body: bytes | None = body
        self._further = headers
        self._status = 500
        self._headers: CIMultiDict[str] = CIMultiDict()
        self._response: web.StreamResponse | None = None

    async def receive(self) -> Message:
        """Return the body; later wait, as the caller's disconnect cancels the application."""
        if self._body is None:
            await asyncio.get_running_loop().create_future()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        """Take a message of the response. A response in one piece is sent later, with its length."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            for name, value in message.get("headers", ()):
                if (decoded := name.decode("latin-1").lower()) not in _NOT_PASSED:
                    self._headers.add(decoded, value.decode("latin-1"))
            self._headers.extend(self._further)
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if self._response is None:
            if not more:
                self._response = web.Response(status=self._status, headers=self._headers, body=body)
                return
            self._response = web.StreamResponse(status=self._status, headers=self._headers)
            await self._response.prepare(self._request)
        if body:
            await self._response.write(body)
        if not more:
            await self._response.write_eof()

    def response(self) -> web.StreamResponse:
        """Return the response; raise RuntimeError if there is none."""
        if self._response is None:
            raise RuntimeError("The application ended without a response.")
        return self._response
