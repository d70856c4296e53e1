"""WebSockets on a connection of the server: uvicorn's protocol on `websockets`, with the limits of our own.

Only an app behind `middleware/upgrade.py` may be served with it, because no other middleware knows WebSockets.
"""

import base64
import binascii
import json
import logging
from asyncio import BaseTransport
from http import HTTPStatus
from typing import Any

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from agent_service.server.connections import Connections
from agent_service.server.counted_connection import CountedConnection
from agent_service.server.http_guard import MAPPED, GuardedProtocol

# uvicorn logs the paths of WebSockets, with their query, and `websockets` the content of messages.
_quiet = logging.getLogger("agent_service.websocket")
_quiet.setLevel(logging.ERROR)

# RFC 6455, 7.4.1.
_GOING_AWAY = 1001
_LOST = 1006

_KEY_BYTES = 16


class GuardedWebSocket(CountedConnection, WebSocketsSansIOProtocol):
    """A WebSocket that counts among the connections of its process, and is closed with 1001 when draining ends."""

    closed_here = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = self.conn.logger = _quiet
        self.conn.debug = False

    def connection_made(self, transport: BaseTransport) -> None:
        """Take the connection over from HTTP."""
        super().connection_made(transport)
        if self.client is not None and self.client[0].startswith(MAPPED):
            self.client = (self.client[0].removeprefix(MAPPED), self.client[1])
        self.connections_of_process.opened(self)
        self.connections_of_process.busy(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection. Without a closing handshake, the app gets the code 1006 (RFC 6455, 7.1.5)."""
        if self.conn.close_rcvd is None and not self.close_sent:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": _LOST})
        self.connections_of_process.closed(self)
        super().connection_lost(exc)

    async def send(self, message: ASGISendEvent) -> None:
        """Send a message of the app. After a close by the server itself, the client counts as gone."""
        if self.closed_here:
            raise ClientDisconnected
        await super().send(message)

    def shutdown(self) -> None:
        """Close at the end of draining."""
        if self.close_sent or not self.handshake_complete:
            super().shutdown()
            return
        self.stop_keepalive()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": _GOING_AWAY})
        self.conn.send_close(_GOING_AWAY)
        self.close_sent = self.closed_here = True
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.transport.close()

    def keepalive_timeout(self) -> None:
        """Close if a ping was not answered, unless the answer cannot be read yet because the runtime is slow."""
        if self.read_paused:
            self.pong_timer = None
            self.pending_ping_payload = None
            self.schedule_ping()
            return
        super().keepalive_timeout()

    def data_received(self, data: bytes) -> None:
        """Receive data. A handshake that `websockets` cannot read gets 431."""
        super().data_received(data)
        if self.handshake_initiated or self.conn.handshake_exc is None:
            return
        # The head is valid HTTP, but `websockets` accepts only 128 headers, of 8 KiB each.
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        body = json.dumps({"detail": "The head of a WebSocket's request is too large."}).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


class UpgradableProtocol(GuardedProtocol):
    """HTTP that becomes a WebSocket with a complete handshake. Any other upgrade is ignored (RFC 9110, 7.8)."""

    _upgrading = False
    _websocket: GuardedWebSocket | None = None

    def on_headers_complete(self) -> None:
        """Check the head, and note whether it opens a WebSocket."""
        super().on_headers_complete()
        self._upgrading = self.parser.should_upgrade() and self._should_upgrade()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over."""
        self.connections_of_process.closed(self)
        super().handle_websocket_upgrade()
        protocol = self.transport.get_protocol()
        if isinstance(protocol, GuardedWebSocket):
            self._websocket = protocol

    def _should_upgrade(self) -> bool:
        opens = self.parser.get_method() == b"GET" and self.parser.get_http_version() == "1.1"
        return opens and super()._should_upgrade() and _is_handshake(self.headers)

    def _parse(self, data: bytes) -> None:
        if self._websocket is not None:
            # Sent together with the head.
            self._websocket.data_received(data)
            return
        super()._parse(data)

    def _feed(self, data: bytes) -> bool:
        parsed = super()._feed(data)
        if parsed and self._upgrading:
            self._upgrading = False
            self.handle_websocket_upgrade()
            return False
        return parsed


def _is_handshake(headers: list[tuple[bytes, bytes]]) -> bool:
    """Return whether a request can become a WebSocket (RFC 6455, 4.2.1): a key, version 13, and no body."""

    def values(wanted: bytes) -> list[bytes]:
        return [value for name, value in headers if name == wanted]

    if len(values(b"sec-websocket-key")) != 1 or values(b"sec-websocket-version") != [b"13"]:
        return False
    try:
        key = base64.b64decode(values(b"sec-websocket-key")[0].strip(), validate=True)
    except binascii.Error:
        return False
    return len(key) == _KEY_BYTES and values(b"content-length") in ([], [b"0"]) and len(values(b"upgrade")) == 1


def websockets(connections: Connections) -> type[GuardedWebSocket]:
    """Return the protocol class for the WebSockets of this process."""
    return type("WebSocket", (GuardedWebSocket,), {"connections_of_process": connections})
