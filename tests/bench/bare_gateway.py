"""The limit of the gateway in Python: aiohttp passes `/v1/messages` on, and reads nothing in it.

It reads MODEL_URL and PORT from the environment.
"""

import os

import aiohttp
import uvloop
from aiohttp import web

_URL = os.environ["MODEL_URL"] + "/v1/messages"
_HEADERS = {"content-type": "application/json", "x-api-key": "sk-bench", "anthropic-version": "2023-06-01"}
_CLIENT = web.AppKey("client", aiohttp.ClientSession)


async def _pass_on(request: web.Request) -> web.StreamResponse:
    body = await request.read()
    async with request.app[_CLIENT].post(_URL, data=body, headers=_HEADERS) as answer:
        response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.headers["Content-Type"]})
        response.content_length = answer.content_length
        await response.prepare(request)
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
        return response


async def _make() -> web.Application:
    app = web.Application()
    app[_CLIENT] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    app.router.add_post("/v1/messages", _pass_on)
    return app


if __name__ == "__main__":
    web.run_app(
        _make(),
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        access_log=None,
        loop=uvloop.new_event_loop(),
        print=None,
    )
