"""A server that does what the SDK would not. Its argument is JSON: `port`, and the options of `Options`.

It speaks the revision of 2025-11-25, without sessions.
"""

import asyncio
import gzip
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

MEBIBYTE = 2**20
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


def hundred_megabytes(request_id: Any) -> Response:
    async def body() -> AsyncIterator[bytes]:
        yield json.dumps({"jsonrpc": "2.0", "id": request_id})[:-1].encode()
        yield b',"result":{"content":[{"type":"text","text":"'
        for _ in range(100):
            yield b"x" * MEBIBYTE
        yield b'"}]}}'

    return StreamingResponse(body(), media_type="application/json")


def called(name: str, request_id: Any, request: Request) -> Response:
    events = {"endless_event": endless_event, "endless_notifications": endless_notifications}
    events |= {"never": never, "broken": broken}
    match name:
        case "hundred_megabytes":
            return hundred_megabytes(request_id)
        case "endless_json":
            return StreamingResponse(endless_json(), media_type="application/json")
        case "bomb":
            packed = gzip.compress(json.dumps({"jsonrpc": "2.0", "id": request_id, "result": {}}).encode())
            return Response(packed, media_type="application/json", headers={"content-encoding": "gzip"})
        case "not_json":
            return Response("<html>", media_type="application/json")
        case "invalid_result":
            return answer(request_id, {"content": "no list"})
        case "gateway_error":
            return Response("<html>Bad Gateway</html>", 502, media_type="text/html")
        case "echo_headers":
            text = json.dumps(dict(request.headers))
            return answer(request_id, {"content": [{"type": "text", "text": text}]})
        case _ if name in events:
            return StreamingResponse(events[name](), media_type="text/event-stream")
    error = {"code": -32602, "message": f"Unknown tool: {name}"}
    return JSONResponse({"jsonrpc": "2.0", "id": request_id, "error": error})


async def handle(request: Request) -> Response:
    if options.hang:
        await asyncio.Event().wait()
    if options.redirect is not None:
        return RedirectResponse(options.redirect, 307)
    if request.method != "POST":
        return Response(status_code=405)
    message = await request.json()
    request_id = message.get("id")
    match message["method"]:
        case "initialize":
            version = {"protocolVersion": "2025-11-25", "serverInfo": {"name": "hostile", "version": "1"}}
            return answer(request_id, {**version, "capabilities": {"tools": {}}})
        case "tools/list":
            many = [{"name": f"tool_{number:04d}", "inputSchema": OBJECT} for number in range(options.many)]
            return answer(request_id, {"tools": [*options.tools, *many]})
        case "tools/call":
            return called(message["params"]["name"], request_id, request)
        case _ if request_id is None:
            return Response(status_code=202)
    error = {"code": -32601, "message": "Method not found"}
    return JSONResponse({"jsonrpc": "2.0", "id": request_id, "error": error}, 404)


if __name__ == "__main__":
    app = Starlette(routes=[Route("/mcp", handle, methods=["GET", "POST", "DELETE"])])
    uvicorn.run(app, port=options.port, log_level="warning")
