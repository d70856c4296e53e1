"""A runtime that answers every turn at once, with prepared bytes, in the protocol `invocations`.

It reads PORT from the environment.
"""

import asyncio
import json
import os
import re
import signal
import socket
from typing import cast

import uvloop

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_TEXT = "It is good to have you here. What can I do for you on this fine day, dear friend?"


def _whole(content: dict[str, str]) -> bytes:
    data = json.dumps(content).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(data), data)


_ANSWER = _whole({"response": _TEXT})
_HEALTHY = _whole({"status": "Healthy"})


class Runtime(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for the answers."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer each complete request."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            found = _LENGTH.search(self._received, 0, end + 2)
            size = end + 4 + (int(found[1]) if found else 0)
            if len(self._received) < size:
                return
            asks = self._received.startswith(b"POST")
            self._received = self._received[size:]
            self._transport.write(_ANSWER if asks else _HEALTHY)


async def _serve() -> None:
    sock = socket.create_server(("127.0.0.1", int(os.environ["PORT"])), backlog=4096)
    loop = asyncio.get_running_loop()
    await loop.create_server(Runtime, sock=sock)
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()


if __name__ == "__main__":
    uvloop.run(_serve())
