"""A gateway between an agent and the model API that may send anything: a server run by the test, in a thread.

A test defines the bytes of each answer, from the status line on. An endless answer is cut at LARGEST_ANSWER_BYTES, and
ends when the service closes its connection.
"""

import json
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

LARGEST_ANSWER_BYTES = 2**28

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"

COUNT = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 18\r\nConnection: close\r\n\r\n"
    b'{"input_tokens":1}'
)

START = {"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1}}}
DELTA = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}
STOP = {"type": "message_stop"}


@dataclass
class Asked:
    """A request: its path, its headers with lower-case names, and its JSON body."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def message(self) -> str:
        """The content of the user's last message."""
        return str(self.body["messages"][-1]["content"])


Answers = Callable[[Asked], bytes | Iterable[bytes]]


@dataclass
class Gateway:
    """A running gateway. `answer` may be replaced.

    `sent` holds the number of bytes of each answer to a question that has ended: not of those to checks, which the
    service makes at any time.
    """

    url: str
    answer: Answers
    check: bytes = COUNT
    asked: list[Asked] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)

    def questions(self) -> list[Asked]:
        """Return the requests that asked for a message."""
        return [each for each in self.asked if each.path.endswith("/messages")]


def text(content: str) -> dict[str, Any]:
    """Return an event that carries text."""
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": content}}


def sse(*events: dict[str, Any]) -> bytes:
    """Return events in the wire format of the model API."""
    return b"".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in events)


def whole(content: str = "Hello") -> bytes:
    """Return a complete answer, from its status line on."""
    return HEAD + sse(START, text(content), DELTA, STOP)


def plain(status: str, media_type: str, body: bytes, *headers: str) -> bytes:
    """Return an answer whose status line ends with `status`, with this media type and body."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {media_type}", f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


@contextmanager
def running_gateway(answer: Answers, tls: ssl.SSLContext | None = None) -> Iterator[Gateway]:
    """Run a gateway that answers with `answer`, on a loopback port."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                asked = _read(self.rfile)
                if asked is None:
                    return
                gateway.asked.append(asked)
                if "count_tokens" in asked.path:
                    self.wfile.write(gateway.check)
                    return
                given = gateway.answer(asked)
                self._send(gateway, [given] if isinstance(given, bytes) else given)

        def _send(self, gateway: Gateway, chunks: Iterable[bytes]) -> None:
            sent = 0
            try:
                for chunk in chunks:
                    self.wfile.write(chunk)
                    sent += len(chunk)
                    if sent > LARGEST_ANSWER_BYTES:
                        return
            finally:
                gateway.sent.append(sent)

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True
        block_on_close = False

        def get_request(self) -> tuple[Any, Any]:
            connection, address = super().get_request()
            # The handshake takes place at the first read, in the connection's own thread.
            return (
                connection
                if tls is None
                else tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            ), address

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Print nothing: clients are expected to disconnect early."""

    with Server(("127.0.0.1", 0), Handler) as server:
        scheme = "http" if tls is None else "https"
        gateway = Gateway(f"{scheme}://127.0.0.1:{server.server_address[1]}", answer)
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        try:
            yield gateway
        finally:
            server.shutdown()
            serving.join()


def _read(stream: Any) -> Asked | None:
    first = stream.readline().decode("latin-1").split()
    if len(first) != 3:
        return None
    headers: dict[str, str] = {}
    while line := stream.readline().decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", "0")))
    return Asked(first[1], headers, json.loads(body) if body else {})
