"""A server that does what the SDK would not. Its argument is JSON: `port`, and the options of `Options`.

It speaks the revision of 2025-11-25, without sessions.
"""

import asyncio
import gzip
import json
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

MEBIBYTE = 2**20
EVENTS, JSON = "text/event-stream", "application/json"
OBJECT = {"type": "object"}


@dataclass
class Options:
    """Options of the server.

    `tools` are the entries of its list, exactly as sent. `many` adds that many tools. `redirect` is an address to which
    all requests are redirected. `hang` answers nothing at all.
    """

    port: int
    tools: list[Any] = field(default_factory=list)
    many: int = 0
    redirect: str | None = None
    hang: bool = False


options = Options(**json.loads(sys.argv[1]))


def answer(request_id: Any, result: dict[str, Any]) -> JSONResponse:
    return JSONResponse({"jsonrpc": "2.0", "id": request_id, "result": result})


def event(message: dict[str, Any]) -> bytes:
    return f"event: message\ndata: {json.dumps({'jsonrpc': '2.0', **message})}\n\n".encode()


async def endless_json() -> AsyncIterator[bytes]:
    yield b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"'
    while True:
        yield b"x" * MEBIBYTE


async def endless_event() -> AsyncIterator[bytes]:
    yield b"event: message\ndata: "
    while True:
        yield b"x" * MEBIBYTE


async def endless_notifications() -> AsyncIterator[bytes]:
    while True:
        yield event({"method": "notifications/message", "params": {"level": "info", "data": "x" * 10_000}})
        await asyncio.sleep(0.001)


async def never() -> AsyncIterator[bytes]:
    yield b": waiting\n\n"
    await asyncio.Event().wait()


async def broken() -> AsyncIterator[bytes]:
    yield b": waiting\n\n"


async def talkative(request_id: Any) -> AsyncIterator[bytes]:
    for number in range(3):
        yield event({"method": "notifications/progress", "params": {"progressToken": 7, "progress": number}})
        yield event({"method": "notifications/message", "params": {"level": "info", "data": f"step {number}"}})
        yield event({"method": "notifications/strange", "params": {}})
    yield event({"id": request_id, "result": {"content": [{"type": "text", "text": "done"}]}})


async def filling(*, media_type: str) -> AsyncIterator[bytes]:
    """Send a MiB, which is just below the limit of an answer, and no end."""
    yield b"event: message\ndata: " if media_type == EVENTS else b"{"
    for _ in range(16):
        yield b" " * (MEBIBYTE // 16)
    await asyncio.Event().wait()


def hundred_megabytes(request_id: Any) -> Response:
    async def body() -> AsyncIterator[bytes]:
        yield json.dumps({"jsonrpc": "2.0", "id": request_id})[:-1].encode()
        yield b',"result":{"content":[{"type":"text","text":"'
        for _ in range(100):
            yield b"x" * MEBIBYTE
        yield b'"}]}}'

    return StreamingResponse(body(), media_type="application/json")


def compressed(request_id: Any) -> Response:
    packed = gzip.compress(json.dumps({"jsonrpc": "2.0", "id": request_id, "result": {}}).encode())
    return Response(packed, media_type="application/json", headers={"content-encoding": "gzip"})


def repeated(request_id: Any, request: Request) -> Response:
    return answer(request_id, {"content": [{"type": "text", "text": json.dumps(dict(request.headers))}]})


def refused(request_id: Any, code: int, message: str, status: int = 200) -> Response:
    error = {"code": code, "message": message}
    return JSONResponse({"jsonrpc": "2.0", "id": request_id, "error": error}, status)


def events(body: AsyncIterator[bytes]) -> Response:
    return StreamingResponse(body, media_type=EVENTS)


ANSWERS: dict[str, Callable[[Any, Request], Response]] = {
    "hundred_megabytes": lambda request_id, _: hundred_megabytes(request_id),
    "endless_json": lambda *_: StreamingResponse(endless_json(), media_type="application/json"),
    "endless_event": lambda *_: events(endless_event()),
    "endless_notifications": lambda *_: events(endless_notifications()),
    "talkative": lambda request_id, _: events(talkative(request_id)),
    "filling_event": lambda *_: events(filling(media_type=EVENTS)),
    "filling_json": lambda *_: StreamingResponse(filling(media_type=JSON), media_type=JSON),
    "never": lambda *_: events(never()),
    "broken": lambda *_: events(broken()),
    "bomb": lambda request_id, _: compressed(request_id),
    "not_json": lambda *_: Response("<html>", media_type="application/json"),
    "invalid_result": lambda request_id, _: answer(request_id, {"content": "no list"}),
    "gateway_error": lambda *_: Response("<html>Bad Gateway</html>", 502, media_type="text/html"),
    "echo_headers": repeated,
}


async def respond(request: Request) -> Response:
    message = await request.json()
    request_id = message.get("id")
    method = message["method"]
    if method == "initialize":
        version = {"protocolVersion": "2025-11-25", "serverInfo": {"name": "hostile", "version": "1"}}
        return answer(request_id, {**version, "capabilities": {"tools": {}}})
    if method == "tools/list":
        many = [{"name": f"tool_{number:04d}", "inputSchema": OBJECT} for number in range(options.many)]
        return answer(request_id, {"tools": [*options.tools, *many]})
    if method == "tools/call" and (reply := ANSWERS.get(message["params"]["name"])):
        return reply(request_id, request)
    if method == "tools/call":
        return refused(request_id, -32602, f"Unknown tool: {message['params']['name']}")
    return Response(status_code=202) if request_id is None else refused(request_id, -32601, "Method not found", 404)


async def handle(request: Request) -> Response:
    if options.hang:
        await asyncio.Event().wait()
    if options.redirect is not None:
        return RedirectResponse(options.redirect, 307)
    return await respond(request) if request.method == "POST" else Response(status_code=405)


if __name__ == "__main__":
    app = Starlette(routes=[Route("/mcp", handle, methods=["GET", "POST", "DELETE"])])
    uvicorn.run(app, port=options.port, log_level="warning")
