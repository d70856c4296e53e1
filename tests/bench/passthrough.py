"""The limit in Python: `/chat` and `/chat/stream` with no SDK, no checks, no state, no logs and no metrics.

Starlette on uvicorn, aiohttp to the model API, orjson. Configured by MODEL_URL and PORT.
"""

import contextlib
import os
from collections.abc import AsyncIterator

import aiohttp
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

_URL = os.environ["MODEL_URL"] + "/v1/messages"
_HEADERS = {"content-type": "application/json", "x-api-key": "sk-bench", "anthropic-version": "2023-06-01"}


def _question(body: bytes, *, stream: bool) -> bytes:
    message = {"role": "user", "content": orjson.loads(body)["message"]}
    asked = {"model": "claude-sonnet-5-5", "max_tokens": 4096, "messages": [message], "stream": stream}
    return orjson.dumps(asked)


async def _chat(request: Request) -> Response:
    question = _question(await request.body(), stream=False)
    async with request.app.state.client.post(_URL, data=question, headers=_HEADERS) as answer:
        said = orjson.loads(await answer.read())
    response = {"response": said["content"][0]["text"], "tokens_used": said["usage"]["output_tokens"]}
    return Response(orjson.dumps(response), media_type="application/json")


async def _chat_stream(request: Request) -> Response:
    question = _question(await request.body(), stream=True)
    answer = await request.app.state.client.post(_URL, data=question, headers=_HEADERS)
    return StreamingResponse(answer.content.iter_any(), media_type="text/event-stream")


@contextlib.asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as app.state.client:
        yield


app = Starlette(
    routes=[Route("/chat", _chat, methods=["POST"]), Route("/chat/stream", _chat_stream, methods=["POST"])],
    lifespan=_lifespan,
)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=False, log_level="warning")
