"""A runtime that calls the model for each turn and passes the text on as it arrives, in the protocol `invocations`.

aiohttp on both sides. It reads MODEL_URL (the gateway, or a model API) and PORT from the environment. Its route
`/v1/messages` takes the question in the form of the model API, for a measurement without the agent in front.
"""

import os
from collections.abc import AsyncIterator

import aiohttp
import orjson
from aiohttp import web

from bench.aiohttp_server import CLIENT, serve

_URL = os.environ["MODEL_URL"] + "/v1/messages"
_HEADERS = {"content-type": "application/json", "x-api-key": "none", "anthropic-version": "2023-06-01"}
# What a runtime passes on so that its calls belong to their turn.
_OF_TURN = ("traceparent", "baggage", "X-Request-ID")
_DONE = b'data: {"type":"done"}\n\n'


async def _invoke(request: web.Request) -> web.StreamResponse:
    asked = orjson.loads(await request.read())
    messages = asked["messages"]
    question = {"model": "claude-sonnet-5-5", "max_tokens": 4096, "messages": messages, "stream": True}
    headers = {**_HEADERS, **{name: request.headers[name] for name in _OF_TURN if name in request.headers}}
    async with request.app[CLIENT].post(_URL, data=orjson.dumps(question), headers=headers) as answer:
        if answer.status != web.HTTPOk.status_code:
            return web.Response(status=web.HTTPBadGateway.status_code, text=await answer.text())
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        async for texts in _texts(answer.content):
            await response.write(b"".join(map(_event, texts)))
        await response.write_eof(_DONE)
        return response


async def _texts(content: aiohttp.StreamReader) -> AsyncIterator[list[str]]:
    """Yield the texts that arrive together."""
    rest = b""
    async for chunk in content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        events = (orjson.loads(line[5:]) for line in lines if line.startswith(b"data:"))
        if texts := [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"]:
            yield texts


def _event(text: str) -> bytes:
    return b"data: " + orjson.dumps({"type": "text", "content": text}) + b"\n\n"


async def _ping(_: web.Request) -> web.Response:
    return web.json_response({"status": "Healthy"})


if __name__ == "__main__":
    serve(web.post("/invocations", _invoke), web.post("/v1/messages", _invoke), web.get("/ping", _ping))
