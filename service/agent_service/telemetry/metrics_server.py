"""The metrics on a separate port (METRICS_PORT), which no Ingress reaches.

Threads serve them, so that a scrape is answered while the event loop is busy, and in a process without one.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from agent_service.telemetry.exposition import Expose

_PATH = "/metrics"

# A client that sends nothing for so long loses its thread.
_CLIENT_SECONDS = 10.0

# Each connection has a thread. At the limit the oldest is closed, so that other clients cannot block a scrape.
_MOST_CONNECTIONS = 32

# How often the server checks for the end of the service.
_POLL_SECONDS = 0.1


@contextmanager
def serving(listener: socket.socket | None, expose: Expose) -> Iterator[None]:
    """Answer `GET /metrics` on a bound socket until the context ends. Do nothing if `listener` is None."""
    if listener is None:
        yield
        return
    server = _Server(listener, expose)
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_SECONDS,), name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # With the default of 5, the clients of a flood, and the scrape among them, would wait for a second or more.
    request_queue_size = 128
    block_on_close = False

    def __init__(self, listener: socket.socket, expose: Expose) -> None:
        super().__init__(listener.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.expose = expose
        self.connections: dict[socket.socket, None] = {}
        self.server_activate()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Accept a connection, and close the oldest ones at the limit."""
        while len(self.connections) >= _MOST_CONNECTIONS:
            with suppress(StopIteration, KeyError, OSError):
                oldest = next(iter(self.connections))
                del self.connections[oldest]
                # Its thread stops reading or writing, and closes it.
                oldest.shutdown(socket.SHUT_RDWR)
        self.connections[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        self.connections.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that disconnected early. An error of ours is in the answer, as 500."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _CLIENT_SECONDS
    server_version = "portside"
    sys_version = ""

    def do_HEAD(self) -> None:
        """Answer like GET, without the body."""
        self.do_GET()

    def do_GET(self) -> None:
        """Answer a scrape."""
        if self.path.partition("?")[0] != _PATH:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        body, content_type = self.server.expose(self.headers.get("Accept", ""))
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name that http.server gives
        """Log no scrapes, like the API."""
