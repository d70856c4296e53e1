"""uvicorn's HTTP, with an end to its patience: it waits for ever for the end of a request's head, and takes any length.

What is a request at all is bounded here; its body is `middleware/body_limit.py`'s.
"""

import json
from asyncio import TimerHandle, Transport
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# As much as nginx takes in all (`large_client_header_buffers`, 4 of 8 KiB) and as much again.
LARGEST_HEAD_BYTES = 64 * 1024

# A head travels in one packet or two. What is slower than this holds connections open on purpose.
HEAD_SECONDS = 20.0

# Of a body, framing takes at most five bytes for each that is carried (RFC 9112, 7.1: chunks of one byte).
_FRAMING = 8


class GuardedProtocol(HttpToolsProtocol):
    """Answers 408 to a head that is not whole in time, 431 to one that is too long, and 400 in our own form."""

    head_seconds = HEAD_SECONDS

    _in_head = True
    _overhead = 0
    _body = 0
    _head_timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as in the parent
        """Begin; a connection that says nothing is idle like one between two requests."""
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def data_received(self, data: bytes) -> None:
        """Take bytes; the time of a head runs from its first."""
        if self._in_head and self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_seconds, self._too_slow)
        self._overhead += len(data)
        super().data_received(data)
        if self._overhead <= LARGEST_HEAD_BYTES + _FRAMING * self._body or self.transport.is_closing():
            return
        if self._in_head:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request's head is too large.")
        else:
            self.transport.close()  # trailers without end: nobody reads them, and an answer may be under way

    def on_headers_complete(self) -> None:
        """Begin the request."""
        self._in_head = False
        self._overhead = 0
        self._stop_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._body += len(body)
        self._overhead -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Be ready for the head of the next request."""
        self._in_head = True
        self._overhead = self._body = 0
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def _too_slow(self) -> None:
        self._head_timer = None
        if self.cycle is not None and not self.cycle.response_complete:
            # Old clients send a line end behind a body (RFC 9112, 2.2): no reason to cut the answer under way.
            self._head_timer = self.loop.call_later(self.head_seconds, self._too_slow)
        elif not self.transport.is_closing():
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "The request's head did not arrive in time.")

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        self._stop_timer()
        if self.cycle is None or self.cycle.response_complete:  # else it would end up in the middle of an answer
            body = json.dumps({"detail": detail}).encode()
            head = (
                f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def guarded(seconds: float) -> type[GuardedProtocol]:
    """Give the protocol with this much patience for a head."""
    return type("Guarded", (GuardedProtocol,), {"head_seconds": seconds})
