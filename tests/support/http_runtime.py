"""A runtime with an HTTP application of its own, for RUNTIME_PROTOCOL=http: it reports what reached it."""

import asyncio
import gzip
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from testbed.ports import free_port

# The service in front of it.
HEALTH_PATH = "/the-health-of-the-runtime"
PROXY = {
    "MODEL_PROVIDER": "echo",
    "RUNTIME_PROTOCOL": "http",
    "RUNTIME_HEALTH_PATH": HEALTH_PATH,
    "RATE_LIMIT_REQUESTS": "0",
}
CLIENT_KEY = "client-key-0000000000000001"

MEBIBYTE = b"x" * 2**20
GZIPPED = gzip.compress(b"compressed")


@dataclass
class HttpRuntime:
    """A running runtime. `gate` lets `/sse` and `/ws/slow` continue; the numbers count what it did."""

    url: str
    loop: asyncio.AbstractEventLoop
    gate: asyncio.Event
    seen: list[dict[str, Any]] = field(default_factory=list)
    written: int = 0
    received: int = 0
    left: int = 0
    closed: list[tuple[int | None, str]] = field(default_factory=list)

    def reset(self) -> None:
        """Forget what was seen, and close the gate."""
        self.seen.clear()
        self.closed.clear()
        self.loop.call_soon_threadsafe(self.gate.clear)
        self.written = self.received = self.left = 0

    def open_gate(self) -> None:
        self.loop.call_soon_threadsafe(self.gate.set)

    def header_names(self) -> set[str]:
        """Return the names of the headers of the last request, in lower case."""
        return {name.lower() for name, _ in self.seen[-1]["headers"]}

    def header(self, name: str) -> list[str]:
        """Return the values of a header of the last request."""
        return [value for each, value in self.seen[-1]["headers"] if each.lower() == name.lower()]

    async def echo(self, request: web.Request) -> web.StreamResponse:
        body = b""
        async for chunk in request.content.iter_any():
            body += chunk
            self.received += len(chunk)
        return web.json_response({**self.seen[-1], "body": body[:1000].decode("latin-1"), "length": len(body)})

    async def sse(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: one\n\n")
        await self._until_left(self.gate.wait())
        await response.write(b"data: two\n\n")
        return response

    async def big(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(int(request.match_info["mebibytes"])):
            await self._until_left(response.write(MEBIBYTE))
            self.written += len(MEBIBYTE)
        return response

    async def slow(self, request: web.Request) -> web.StreamResponse:
        await self._until_left(asyncio.Event().wait())
        return web.Response()

    async def silent(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun")
        await self._until_left(asyncio.Event().wait())
        return response

    async def cut(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun")
        assert request.transport is not None
        request.transport.abort()
        return response

    async def headers(self, request: web.Request) -> web.StreamResponse:
        response = web.Response(body=GZIPPED, headers={"Content-Encoding": "gzip", "X-Own": "1", "Server": "own"})
        response.headers.add("Set-Cookie", "a=1")
        response.headers.add("Set-Cookie", "b=2")
        response.headers.update({"Connection": "X-Hop", "X-Hop": "1", "X-Request-ID": "own", "Keep-Alive": "timeout=5"})
        return response

    async def status(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=int(request.match_info["code"]), headers={"Location": "http://elsewhere.example/"})

    async def websocket(self, request: web.Request) -> web.StreamResponse:
        kind = request.match_info["kind"]
        if kind == "refused":
            return web.Response(status=403, text="a secret reason")
        if kind == "redirected":
            return web.Response(status=302, headers={"Location": "/ws/echo"})
        socket = web.WebSocketResponse(protocols=("chat.v2",), max_msg_size=0, compress=False)
        socket.headers["Set-Cookie"] = "ws=1"
        await socket.prepare(request)
        if kind == "slow":
            # No echo: with one, a client that does not read while it sends would wait for itself.
            await self.gate.wait()
            async for message in socket:
                self.received += len(message.data)
            return socket
        if kind == "flood":
            while True:
                await self._until_left(socket.send_bytes(MEBIBYTE))
                self.written += len(MEBIBYTE)
        if kind == "aborted":
            assert request.transport is not None
            request.transport.abort()
        async for message in socket:
            await self._reply(socket, message)
        self.closed.append((socket.close_code, ""))
        return socket

    async def _reply(self, socket: web.WebSocketResponse, message: aiohttp.WSMessage) -> None:
        if message.type is aiohttp.WSMsgType.BINARY:
            self.received += len(message.data)
            await socket.send_bytes(message.data)
        elif message.data.startswith("close "):
            _, code, reason = message.data.split(" ", 2)
            await socket.close(code=int(code), message=reason.encode())
        elif message.data == "large":
            await socket.send_bytes(17 * MEBIBYTE)
        else:
            await socket.send_str(message.data)

    async def _until_left(self, work: Awaitable[object]) -> None:
        try:
            await work
        except (asyncio.CancelledError, ConnectionError):
            self.left += 1
            raise

    @web.middleware
    async def note(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if request.path == HEALTH_PATH:
            return web.Response()
        headers = [(name.decode(), value.decode("latin-1")) for name, value in request.raw_headers]
        self.seen.append({"method": request.method, "path": request.raw_path, "headers": headers})
        return await handler(request)

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self.note], client_max_size=2**30)
        app.router.add_get("/sse", self.sse)
        app.router.add_get("/big/{mebibytes}", self.big)
        app.router.add_get("/slow", self.slow)
        app.router.add_get("/silent", self.silent)
        app.router.add_get("/cut", self.cut)
        app.router.add_get("/headers", self.headers)
        app.router.add_get("/status/{code}", self.status)
        app.router.add_get("/ws/{kind}", self.websocket)
        app.router.add_route("*", "/{rest:.*}", self.echo)
        return app


@contextmanager
def running_http_runtime(port: int | None = None) -> Iterator[HttpRuntime]:
    """Run a runtime in a thread of its own while the context is active."""
    port = port or free_port()
    loop = asyncio.new_event_loop()
    runtime = HttpRuntime(f"http://127.0.0.1:{port}", loop, asyncio.Event())
    # So that a client that leaves is noticed in the handler.
    runner = web.AppRunner(runtime.app(), handler_cancellation=True, shutdown_timeout=1.0)

    async def start() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()

    loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield runtime
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
