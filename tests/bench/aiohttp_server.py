"""The server of the bench's programs on aiohttp, which call the model API."""

import os

import aiohttp
import uvloop
from aiohttp import web

CLIENT = web.AppKey("client", aiohttp.ClientSession)


def serve(*routes: web.RouteDef) -> None:
    """Serve the routes on the port in PORT until SIGTERM, with `CLIENT` in the app for the calls."""
    web.run_app(
        _app(routes),
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        access_log=None,
        loop=uvloop.new_event_loop(),
        print=None,
        backlog=4096,
    )


async def _app(routes: tuple[web.RouteDef, ...]) -> web.Application:
    app = web.Application()
    app[CLIENT] = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
    )
    app.router.add_routes(routes)
    return app
