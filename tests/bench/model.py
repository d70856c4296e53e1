"""A model API for the bench: the wire format of the Messages API from prepared bytes, fast enough not to be the limit.

    python model.py

It prints its address as the first line. The last user message determines how it answers `POST /v1/messages`:

    [[delay:0.2]]   wait so many seconds before the answer
    [[pace:0.1]]    in a stream: so many seconds between two tokens; each token is `<due> <sent> `, both in seconds of
                    the machine's monotonic clock, so that a reader on the same machine knows how late it came
    [[tokens:300]]  tokens of a paced stream

`GET /streams` answers with how many paced streams are open now, and how many were left before their end.
"""

import asyncio
import json
import re
import signal
import socket
import sys
import time
from typing import Any, cast

import uvloop

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_STREAMED = re.compile(rb'"stream": *true')
_DIRECTIVE = re.compile(rb"\[\[(delay|pace|tokens):([0-9.]+)\]\]")

# A model's answer to "hello": some 20 tokens.
_ANSWER = re.findall(r"\S+ ?", "It is good to have you here. What can I do for you on this fine day, dear friend?")

_MESSAGE: dict[str, Any] = {
    "id": "msg_0123456789abcdefghijklmn",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-5-5",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": 12, "output_tokens": 1},
}


def _event(kind: str, **content: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), json.dumps({"type": kind, **content}).encode())


def _token(text: str) -> bytes:
    return _event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _whole(data: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nrequest-id: req_1\r\ncontent-length: %d\r\n\r\n"
    return head % len(data) + data


_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nrequest-id: req_1\r\ntransfer-encoding: chunked\r\n\r\n"
_BEGIN = [
    _event("message_start", message=_MESSAGE),
    _event("ping"),
    _event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
]
_END = [
    _event("content_block_stop", index=0),
    _event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 20}),
    _event("message_stop"),
]
_LAST = b"".join(map(_chunk, _END)) + b"0\r\n\r\n"
_STREAM = _HEAD + b"".join(map(_chunk, [*_BEGIN, *map(_token, _ANSWER)])) + _LAST
_TEXT = {"type": "text", "text": "".join(_ANSWER)}
_JSON = _whole(json.dumps({**_MESSAGE, "content": [_TEXT], "stop_reason": "end_turn"}).encode())


class Model(asyncio.Protocol):
    """One connection."""

    opened = 0
    left = 0

    def __init__(self) -> None:
        self._received = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for the answers."""
        self._transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop sending the rest of the answer."""
        if self._timer is not None:
            self._timer.cancel()
            if self._stream:
                Model.opened -= 1
                Model.left += 1

    def data_received(self, data: bytes) -> None:
        """Answer each complete request."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            found = _LENGTH.search(self._received, 0, end + 2)
            size = end + 4 + (int(found[1]) if found else 0)
            if len(self._received) < size:
                return
            request, self._received = self._received[:size], self._received[size:]
            self._answer(request)

    def _answer(self, request: bytes) -> None:
        if request.startswith(b"GET /streams"):
            self._transport.write(_whole(json.dumps({"open": Model.opened, "left": Model.left}).encode()))
            return
        directives = {name: float(value) for name, value in _DIRECTIVE.findall(request)}
        self._stream = b"pace" in directives
        if self._stream:
            Model.opened += 1
            self._transport.write(_HEAD + b"".join(map(_chunk, _BEGIN)))
            self._pace, self._left = directives[b"pace"], int(directives[b"tokens"])
            self._due = time.monotonic() + self._pace
            self._timer = self._loop.call_later(self._pace, self._say)
            return
        answer = _STREAM if _STREAMED.search(request) else _JSON
        if b"delay" in directives:
            self._timer = self._loop.call_later(directives[b"delay"], self._late, answer)
        else:
            self._transport.write(answer)

    def _late(self, answer: bytes) -> None:
        self._timer = None
        self._transport.write(answer)

    def _say(self) -> None:
        now = time.monotonic()
        token = _chunk(_token(f"{self._due:.6f} {now:.6f} "))
        self._left -= 1
        if self._left == 0:
            Model.opened -= 1
            self._timer = None
            self._transport.write(token + _LAST)
            return
        self._transport.write(token)
        self._due += self._pace
        self._timer = self._loop.call_later(max(0.0, self._due - now), self._say)


async def _serve() -> None:
    sock = socket.create_server(("127.0.0.1", 0), backlog=4096)
    loop = asyncio.get_running_loop()
    await loop.create_server(Model, sock=sock)
    sys.stdout.write(f"Model API of the bench on http://127.0.0.1:{sock.getsockname()[1]}\n")
    sys.stdout.flush()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()


if __name__ == "__main__":
    uvloop.run(_serve())
