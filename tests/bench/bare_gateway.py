"""The limit of the gateway in Python: aiohttp passes `/v1/messages` on, and reads nothing in it.

It reads MODEL_URL and PORT from the environment.
"""

import os

from aiohttp import web

from bench.aiohttp_server import CLIENT, serve

_URL = os.environ["MODEL_URL"] + "/v1/messages"
_HEADERS = {"content-type": "application/json", "x-api-key": "sk-bench", "anthropic-version": "2023-06-01"}


async def _pass_on(request: web.Request) -> web.StreamResponse:
    body = await request.read()
    async with request.app[CLIENT].post(_URL, data=body, headers=_HEADERS) as answer:
        response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.headers["Content-Type"]})
        response.content_length = answer.content_length
        await response.prepare(request)
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
        return response


if __name__ == "__main__":
    serve(web.post("/v1/messages", _pass_on))
