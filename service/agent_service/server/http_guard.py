"""uvicorn's HTTP protocol, with limits on time and memory.

uvicorn waits forever for the end of a request's head and for a client to read. It accepts heads of any length, and
parses all requests of a read at once. This module limits the request itself; `middleware/body_limit.py` limits its
body.
"""

import json
import re
from asyncio import TimerHandle, Transport
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from agent_service.server.connections import Connections
from agent_service.server.counted_connection import CountedConnection
from agent_service.server.until_close import OLD_VERSIONS, UntilClose

# Twice what nginx accepts in total (`large_client_header_buffers`, 4 of 8 KiB).
LARGEST_HEAD_BYTES = 64 * 1024

# A head arrives in one or two packets. A client that is slower than this holds connections open on purpose.
HEAD_SECONDS = 20.0

# Browsers open connections in advance, and close those that are still unused by then.
_FIRST_REQUEST_SECONDS = 60.0

# Allowed bytes of framing per byte of a body. Framing takes at most five (RFC 9112, 7.1: chunks of one byte).
_FRAMING = 8

# What a client may send while its request is being answered. Without reading on, its disconnect would go unnoticed.
_LARGEST_QUEUE_BYTES = 64 * 1024

_HEAD_END = b"\r\n\r\n"

# RFC 9112, 3.2 and RFC 3986, 3.2.2: a name or an address, with or without a port. An empty value is valid.
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-fv:.]+\])(?::[0-9]*)?")

MAPPED = "::ffff:"


class GuardedProtocol(CountedConnection, HttpToolsProtocol):
    """Answers 408 to a head that is incomplete in time, 431 to one that is too long, and 400 in our own format.

    One request is answered at a time. Pipelined requests (RFC 9112, 9.3.2) wait unparsed. More than 64 KiB of them
    are dropped, and the connection is closed with the answer; a client then resends what was not answered.
    """

    head_seconds = HEAD_SECONDS

    _in_head = True
    _overhead = 0
    _body = 0
    _body_length: int | None = None
    _head_timer: TimerHandle | None = None
    _head_tail = b""
    _unparsed = False
    _queued = b""
    _dropping = False
    _fault = ""

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as in the parent
        """Start. A connection without a first request is closed sooner than one between two requests."""
        super().connection_made(transport)
        if self.client is not None and self.client[0].startswith(MAPPED):
            # A socket that listens on both IPv6 and IPv4 shows IPv4 in this form (RFC 4291, 2.5.5.2).
            self.client = (self.client[0].removeprefix(MAPPED), self.client[1])
        seconds = min(_FIRST_REQUEST_SECONDS, self.timeout_keep_alive)
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)
        self.connections_of_process.opened(self)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, or queue them while a request is being answered."""
        while data and not self.transport.is_closing():
            if self._is_answering():
                self._enqueue(data)
                return
            size = self._end_of_part(data)
            self._parse(data[:size])
            data = data[size:]

    def on_message_begin(self) -> None:
        """Start a head."""
        if self._is_answering():
            # Parsed together with the end of the previous, chunked request. It cannot wait.
            self._drop()
            raise _StopError
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Receive a header. Trailers are dropped: they must not become headers (RFC 9110, 6.5.1)."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Check the head, and start the request."""
        self._in_head = False
        self._overhead = 0
        self._head_tail = b""
        self._stop_timer()
        old = self.parser.get_http_version() in OLD_VERSIONS
        self._check_head(old=old)
        if old:
            # An HTTP/1.0 client does not understand interim responses (RFC 9110, 10.1.1).
            self.expect_100_continue = False
        super().on_headers_complete()
        self.connections_of_process.busy(self)

    def on_body(self, body: bytes) -> None:
        """Receive a part of the body."""
        self._body += len(body)
        self._overhead -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Prepare for the head of the next request."""
        if self.parser.should_upgrade() and self._body_length and not self._body:
            # httptools treats what follows a head with `Upgrade` as another protocol. Here it is the body. Parsed as
            # the next request, it would be a request that a proxy in front never saw.
            self._unparsed = True
            return
        self._in_head = True
        self._overhead = self._body = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Continue with the queued bytes."""
        self.connections_of_process.idle(self)
        super().on_response_complete()
        if self._queued:
            queued, self._queued = self._queued, b""
            self.data_received(queued)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_timer()
        # The parent skips this when the connection was reset, and the timer would keep the connection in memory.
        self._unset_keepalive_if_required()
        self._queued = b""
        self.connections_of_process.closed(self)
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if cycle.scope["http_version"] in OLD_VERSIONS:
            app = UntilClose(app, cycle)
        super()._start_asgi_task(cycle, app)

    def _is_answering(self) -> bool:
        """Return whether a complete request was received and its answer is incomplete."""
        cycle = self.cycle
        return cycle is not None and not cycle.response_complete and not cycle.more_body

    def _enqueue(self, data: bytes) -> None:
        if self._dropping:
            return
        if len(self._queued) + len(data) > _LARGEST_QUEUE_BYTES:
            self._drop()
        else:
            self._queued += data

    def _drop(self) -> None:
        """Accept no further request on this connection, and close it after the current answer."""
        self._queued = b""
        self._dropping = True
        self.cycle.keep_alive = False
        self.connections_of_process.count("pipelined_too_much")

    def _end_of_part(self, data: bytes) -> int:
        """Return the number of bytes that can be parsed without reaching into the next request."""
        if not self._in_head:
            left = 0 if self._body_length is None else self._body_length - self._body
            return left if left > 0 else len(data)
        # The end of the head may be split between two reads.
        tail = self._head_tail
        end = (tail + data if tail else data).find(_HEAD_END)
        if end < 0:
            self._head_tail = (tail + data)[1 - len(_HEAD_END) :]
            return len(data)
        self._head_tail = b""
        return end + len(_HEAD_END) - len(tail)

    def _parse(self, data: bytes) -> None:
        """Parse bytes of one request. The timeout of a head starts at its first byte."""
        self._unset_keepalive_if_required()
        if self._in_head and self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_seconds, self._too_slow)
        self._overhead += len(data)
        if self._unparsed:
            self._take_unparsed(data)
        elif not self._feed(data):
            return
        if self._overhead <= LARGEST_HEAD_BYTES + _FRAMING * self._body or self.transport.is_closing():
            if self.cycle is not None and self.cycle.response_complete:
                # This is a body that was answered before it was complete. The rest may never arrive.
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )
            return
        if self._in_head:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request's head is too large.")
        else:
            self.transport.close()  # endless trailers: no code reads them, and an answer may be in progress

    def _feed(self, data: bytes) -> bool:
        """Pass bytes to the parser, and return whether it can continue."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # to a protocol that this service does not support: it continues in HTTP/1.1 (RFC 9110, 7.8)
        except httptools.HttpParserError:
            if not self._dropping:
                self._refuse(HTTPStatus.BAD_REQUEST, self._fault or "Invalid HTTP request received.")
            return False
        return True

    def _take_unparsed(self, body: bytes) -> None:
        self.on_body(body)
        if self._body == self._body_length:
            self._unparsed = False
            self.on_message_complete()

    def _check_head(self, *, old: bool) -> None:
        """Record the length of the body, and refuse a head without one valid Host (RFC 9112, 3.2).

        Raises:
            _StopError: to stop the parser.
        """
        self._body_length = None
        hosts = 0
        for name, value in self.headers:
            if name == b"host":
                hosts += 1
                if _HOST.fullmatch(value) is None:
                    self._fault = "The Host header is not valid."
                    raise _StopError
            elif name == b"content-length" and value.isdigit():
                self._body_length = int(value)
            elif name == b"transfer-encoding" and self.parser.should_upgrade():
                self._fault = "A request with the header Upgrade cannot have a chunked body."
                raise _StopError
        if hosts > 1 or (hosts == 0 and not old):
            self._fault = f"A request needs one Host header; this one has {hosts or 'none'}."
            raise _StopError

    def _too_slow(self) -> None:
        self._head_timer = None
        if self.cycle is not None and not self.cycle.response_complete:
            # Old clients send a line end after a body (RFC 9112, 2.2). It must not cut the current answer.
            self._head_timer = self.loop.call_later(self.head_seconds, self._too_slow)
        elif not self.transport.is_closing():
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "The request's head did not arrive in time.")

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        self._stop_timer()
        self.connections_of_process.count("malformed")
        if self.cycle is None or self.cycle.response_complete:  # else it would be inserted into another answer
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


class _StopError(Exception):
    """Stops the parser: the rest of the data is not parsed."""


def guarded(
    seconds: float, connections: Connections, base: type[GuardedProtocol] = GuardedProtocol
) -> type[GuardedProtocol]:
    """Return the protocol class for the connections of this process, with the timeout of a head in seconds."""
    return type("Guarded", (base,), {"head_seconds": seconds, "connections_of_process": connections})
