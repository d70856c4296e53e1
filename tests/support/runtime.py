"""A runtime that may answer anything: a server run by the test, in threads, on a real socket.

A test defines the bytes of each answer, from the status line on. An answer that is a generator is sent piece by piece;
the connection closes after it, unless the answer ended properly and allows another request.
"""

import json
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

LARGEST_ANSWER_BYTES = 2**30
"""An answer without end is cut here."""

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"

# Closing a socket with this option resets the connection, as the kernel does for a process that is killed.
_RESET = struct.pack("ii", 1, 0)


@dataclass
class Asked:
    """A request: its method, its path, its headers with lower-case names, and its body."""

    method: str
    path: str
    headers: dict[str, str]
    content: bytes
    connection: socket.socket = field(repr=False)

    @property
    def body(self) -> dict[str, Any]:
        """The body, which is a JSON object."""
        value: dict[str, Any] = json.loads(self.content)
        return value

    def disconnected(self, seconds: float = 60.0) -> bool:
        """Wait until the client closes the connection; return False if it does not within `seconds`."""
        readable, _, _ = select.select([self.connection], [], [], seconds)
        try:
            return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True


Answers = Callable[[Asked], bytes | Iterable[bytes]]


def respond(body: bytes, media_type: str = "application/json", status: str = "200 OK") -> bytes:
    """Return an answer with this body."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def json_answer(value: object, status: str = "200 OK") -> bytes:
    """Return an answer with this JSON value."""
    return respond(json.dumps(value).encode(), status=status)


def chunk(data: bytes) -> bytes:
    """Return data as one chunk (RFC 9112, 7.1)."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def event(value: object) -> bytes:
    """Return a JSON value as one server-sent event, in a chunk."""
    return chunk(b"data: " + json.dumps(value).encode() + b"\n\n")


def stream(*values: object) -> Iterator[bytes]:
    """Yield a complete stream with an event for each value."""
    yield STREAM
    for value in values:
        yield event(value)
    yield END


def completion(*texts: str, finish: str | None = "stop", done: bool = True) -> Iterator[bytes]:
    """Yield a stream of chunks of a chat completion."""
    yield STREAM
    for text in texts:
        yield event({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})
    if finish is not None:
        yield event({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if done:
        yield chunk(b"data: [DONE]\n\n")
    yield END


class Runtime:
    """A running runtime. `answer` and `health` may be replaced at any time.

    `asked` has the requests other than those for the health path. `sent` has the number of bytes of each answer that
    has ended.
    """

    def __init__(self, answer: Answers, health_path: str) -> None:
        self.answer = answer
        self.health: Answers = lambda _: json_answer({"status": "Healthy"})
        self.asked: list[Asked] = []
        self.sent: list[int] = []
        self._health_path = health_path
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.start()
        assert self._listener is not None
        self._port: int = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        """The address of the runtime."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen, on the same port as before."""
        listener = socket.create_server(("127.0.0.1", getattr(self, "_port", 0)), backlog=1024)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def kill(self) -> None:
        """Stop listening and reset all connections, as when the process is killed."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        # Closing alone would leave a thread in `accept`, and the port open.
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    connection.shutdown(socket.SHUT_RD)
                    connection.close()
            self._open.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with suppress(OSError, ValueError), connection.makefile("rb") as received:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while (asked := _read(received, connection)) and self._respond(asked):
                    pass
        finally:
            with self._lock:
                self._open.discard(connection)
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _respond(self, asked: Asked) -> bool:
        """Answer a request, and return whether the connection may be used for another."""
        if asked.path == self._health_path:
            given = self.health(asked)
            asked.connection.sendall(given if isinstance(given, bytes) else b"".join(given))
            return True
        self.asked.append(asked)
        answer = self.answer(asked)
        sent, last = 0, b""
        try:
            for piece in [answer] if isinstance(answer, bytes) else answer:
                asked.connection.sendall(piece)
                sent, last = sent + len(piece), piece
                if sent > LARGEST_ANSWER_BYTES:
                    return False
        finally:
            self.sent.append(sent)
        return last == END or isinstance(answer, bytes)


@contextmanager
def running_runtime(answer: Answers, *, health_path: str = "/ping") -> Iterator[Runtime]:
    """Run a runtime that answers with `answer`, on a loopback port."""
    runtime = Runtime(answer, health_path)
    try:
        yield runtime
    finally:
        runtime.kill()


def _read(received: Any, connection: socket.socket) -> Asked | None:
    first = received.readline().decode("latin-1").split()
    if len(first) != 3:
        return None
    headers: dict[str, str] = {}
    while line := received.readline().decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return Asked(first[0], first[1], headers, received.read(int(headers.get("content-length", "0"))), connection)
