"""A server on the official SDK. Its argument is JSON: `port`, and the options of `Options`."""

import base64
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import anyio
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import (
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    TextContent,
    TextResourceContents,
)
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


@dataclass
class Options:
    """Options of the server.

    `stateless` and `json` are those of the SDK. `legacy` makes it a server of the revision of 2025-11-25. `token` is
    the one that it accepts, if any. `secret` is that of the client `portside`, which gets tokens at `/token` that are
    valid for `expires_in` seconds; a POST to `/expire` ends them at once, and one to `/revoke` also all later ones.
    `label` is the answer of `who`.
    """

    port: int
    stateless: bool = False
    json: bool = False
    legacy: bool = False
    label: str = "small"
    token: str | None = None
    secret: str | None = None
    expires_in: int = 3600
    descriptions: str = ""


options = Options(**json.loads(sys.argv[1]))
server = MCPServer("small")


class Sum(BaseModel):
    """A result with structure."""

    total: int


def record(**fields: Any) -> None:
    with Path("calls.jsonl").open("a") as file:
        file.write(json.dumps(fields) + "\n")


@server.tool(description=f"Add two numbers. {options.descriptions}")
def add(a: int, b: int) -> str:
    record(tool="add", a=a, b=b)
    return str(a + b)


@server.tool()
def who() -> str:
    return options.label


@server.tool()
def total(numbers: Annotated[list[int], Field(description="The numbers.")]) -> Sum:
    return Sum(total=sum(numbers))


@server.tool()
def fail() -> str:
    raise ValueError("the disk is full")


@server.tool(structured_output=False)
def text(characters: int) -> str:
    return "x" * characters


@server.tool()
async def slow(duration: float, label: str) -> str:
    record(tool="slow", label=label, event="started")
    try:
        await anyio.sleep(duration)
    except BaseException:
        record(tool="slow", label=label, event="cancelled")
        raise
    record(tool="slow", label=label, event="finished")
    return f"slept {label}"


@server.tool(structured_output=False)
def picture() -> CallToolResult:
    content = [
        TextContent(type="text", text="A pixel:"),
        ImageContent(type="image", mime_type="image/png", data=PIXEL),
        ImageContent(type="image", mime_type="image/tiff", data=PIXEL),
        EmbeddedResource(
            type="resource",
            resource=TextResourceContents(uri="file:///notes.txt", mime_type="text/plain", text="notes"),
        ),
        EmbeddedResource(
            type="resource", resource=BlobResourceContents(uri="file:///a.pdf", mime_type="application/pdf", blob=PIXEL)
        ),
    ]
    return CallToolResult(content=content)


@server.tool()
async def headers(ctx: Context) -> str:
    record(tool="headers", headers=dict(ctx.headers or {}), meta=dict(ctx.request_context.meta or {}))
    return json.dumps(dict(ctx.headers or {}))


@server.tool()
async def grow(name: str, ctx: Context) -> str:
    """Add a tool, and report that the list changed."""
    server.add_tool(lambda: name, name=name, description="A new tool.")
    if options.legacy:
        await ctx.session.send_tool_list_changed()
    else:
        await ctx.notify_tools_changed()
    return "grown"


@server.tool()
def shrink(name: str) -> str:
    """Remove a tool, and report nothing."""
    server.remove_tool(name)
    return "shrunk"


class Gate:
    """Issues and checks tokens, and refuses the revision of 2026-07-28 for a server of the one before."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._issued = 0
        self._is_revoked = False
        self._valid = set() if options.token is None else {options.token}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        if request.url.path == "/token":
            await (await self._issue(request))(scope, receive, send)
        elif request.url.path in ("/expire", "/revoke"):
            self._valid.clear()
            self._is_revoked = request.url.path == "/revoke"
            await JSONResponse({})(scope, receive, send)
        elif self._needs_token and request.headers.get("authorization", "") not in self._headers():
            record(event="refused", method=request.method)
            await JSONResponse({"error": "invalid_token"}, 401)(scope, receive, send)
        elif options.legacy and request.headers.get("mcp-protocol-version") == "2026-07-28":
            await JSONResponse({"error": "unknown revision"}, 400)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    @property
    def _needs_token(self) -> bool:
        return options.token is not None or options.secret is not None

    def _headers(self) -> set[str]:
        return {f"Bearer {token}" for token in self._valid}

    async def _issue(self, request: Request) -> JSONResponse:
        form = dict(await request.form())
        pair = base64.b64encode(f"portside:{options.secret}".encode()).decode()
        if request.headers.get("authorization") != f"Basic {pair}" or form.get("grant_type") != "client_credentials":
            return JSONResponse({"error": "invalid_client"}, 401)
        self._issued += 1
        token = f"issued-token-{self._issued}"
        if not self._is_revoked:
            self._valid.add(token)
        record(event="token", form=form)
        return JSONResponse({"access_token": token, "token_type": "Bearer", "expires_in": options.expires_in})


if __name__ == "__main__":
    app = server.streamable_http_app(stateless_http=options.stateless, json_response=options.json)
    uvicorn.run(Gate(app), port=options.port, log_level="warning")
