"""A relay between a client and a server, behind which the client can vanish without closing its connection."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Relay:
    """Passes bytes on until the client vanishes. Then no connection is closed, and no byte reaches either side."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._blocked = asyncio.Event()
        self._vanished = self._swallows = False
        self.url = ""

    def vanish(self, *, swallows: bool) -> None:
        """Stop passing bytes on. With `swallows`, what the server sends is still taken, as by a proxy that hangs."""
        self._vanished, self._swallows = True, swallows

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass the bytes of one connection on."""
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._port, limit=4096)
        pumps = [self._pump(reader, server_writer), self._pump(server_reader, writer)]
        try:
            await asyncio.gather(*pumps)
        finally:
            writer.close()
            server_writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            if self._vanished and not self._swallows:
                await self._blocked.wait()
            if not self._vanished:
                writer.write(data)
                await writer.drain()
        if self._vanished:
            await self._blocked.wait()
        writer.close()


@asynccontextmanager
async def relaying(port: int) -> AsyncIterator[Relay]:
    """Run a relay to a port of this machine, and close its connections at the end."""
    relay = Relay(port)
    connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(task := asyncio.create_task(relay.connected(reader, writer)))
        await asyncio.wait([task])

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    relay.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
