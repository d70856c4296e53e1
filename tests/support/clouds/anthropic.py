"""A stand-in for Anthropic's API that takes tokens of workload identity federation only."""

from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from support.clouds.server import CloudServer, Received, Upstream, passed, running

_BETA = "oauth-2025-04-20"


@contextmanager
def running_anthropic(tokens: set[str], upstream_url: str) -> Iterator[CloudServer]:
    """Run the stand-in, which accepts these tokens."""

    async def handle(request: web.Request, received: Received, upstream: Upstream) -> web.StreamResponse:
        betas = {each.strip() for each in request.headers.get("anthropic-beta", "").split(",")}
        used = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if used not in tokens or _BETA not in betas or "x-api-key" in request.headers:
            error = {"type": "authentication_error", "message": f"invalid bearer token {used}"}
            return web.json_response({"type": "error", "error": error}, status=401)
        return await passed(await upstream.ask(request.path, received.json()), request)

    with running(handle, upstream_url) as server:
        yield server
