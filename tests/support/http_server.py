"""A small HTTP server on loopback, in threads of its own, for the duration of a test."""

import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class QuietHandler(BaseHTTPRequestHandler):
    """Answers with whole bodies, and logs nothing."""

    def send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send an answer; JSON, unless other headers are given."""
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} if headers is None else headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name that http.server gives
        """Log nothing."""


@contextmanager
def serving_http(handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Answer requests on a port of 127.0.0.1, which is yielded."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
