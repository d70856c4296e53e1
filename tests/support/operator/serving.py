"""A small HTTPS server on loopback, in a thread of its own, for the duration of a test."""

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aiohttp import web

from testbed.certificates import Authority

START_SECONDS = 10

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@contextmanager
def serving(
    handler: Handler, authority: Authority, close: Callable[[], Awaitable[None]] | None = None
) -> Iterator[int]:
    """Answer requests with `handler` in the server's own event loop, and end with `close`. Yields the port."""
    pair = authority.issue("loopback", [], ["127.0.0.1"])
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pair.certificate, pair.key)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runner, port = asyncio.run_coroutine_threadsafe(_start(handler, tls), loop).result(START_SECONDS)
    try:
        yield port
    finally:
        asyncio.run_coroutine_threadsafe(_end(runner, close), loop).result(START_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(START_SECONDS)


async def _start(handler: Handler, tls: ssl.SSLContext) -> tuple[web.ServerRunner, int]:
    runner = web.ServerRunner(web.Server(handler, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    return runner, runner.addresses[0][1]


async def _end(runner: web.ServerRunner, close: Callable[[], Awaitable[None]] | None) -> None:
    if close is not None:
        await close()
    await runner.cleanup()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def authority_in(folder: Path) -> Authority:
    """Return a certificate authority for one test."""
    return Authority(folder / "pki")
