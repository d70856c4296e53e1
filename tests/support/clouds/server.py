"""A server of a cloud's stand-in, in a thread of its own, and its calls of the stand-in for Anthropic's API."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from support.agent import KEY

LARGEST_BYTES = 2**26


@dataclass
class Received:
    """A request: its path and query as sent, its headers, and its body."""

    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Upstream:
    """The stand-in for Anthropic's API, which answers what a cloud's stand-in passes on."""

    url: str
    session: aiohttp.ClientSession

    async def ask(self, path: str, question: dict[str, Any]) -> aiohttp.ClientResponse:
        headers = {"Authorization": f"Bearer {KEY}", "anthropic-version": "2023-06-01"}
        return await self.session.post(self.url + path, json=question, headers=headers)


async def events(answer: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """Yield the events of an answer."""
    async for line in answer.content:
        if line.startswith(b"data:"):
            yield json.loads(line[5:])


async def passed(answer: aiohttp.ClientResponse, request: web.Request) -> web.StreamResponse:
    """Send an answer as it is."""
    if "text/event-stream" not in answer.headers["Content-Type"]:
        return web.json_response(await answer.json(), status=answer.status)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    try:
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
    finally:
        answer.close()
    await response.write_eof()
    return response


@dataclass
class CloudServer:
    """A running stand-in of a cloud, with the requests that it has received."""

    url: str
    received: list[Received] = field(default_factory=list)

    def questions(self) -> list[Received]:
        """Return the requests that are not for counts of tokens, which the service makes at any time."""
        return [each for each in self.received if "count" not in each.path]


Handle = Callable[[web.Request, Received, Upstream], Awaitable[web.StreamResponse]]


@contextmanager
def running(handle: Handle, upstream_url: str) -> Iterator[CloudServer]:
    """Run a server on a loopback port."""
    started, stop = threading.Event(), asyncio.Event()
    server = CloudServer("")
    loop = asyncio.new_event_loop()

    async def answer(request: web.Request) -> web.StreamResponse:
        received = Received(request.raw_path, dict(request.headers), await request.read())
        server.received.append(received)
        return await handle(request, received, Upstream(upstream_url, request.app[_SESSION]))

    async def serve() -> None:
        app = web.Application(client_max_size=LARGEST_BYTES)
        app.router.add_route("*", "/{path:.*}", answer)
        async with aiohttp.ClientSession() as session:
            app[_SESSION] = session
            runner = web.AppRunner(app)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = runner.addresses[0][1]
            server.url = f"http://127.0.0.1:{port}"
            started.set()
            await stop.wait()
            await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    started.wait()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


_SESSION = web.AppKey("session", aiohttp.ClientSession)
