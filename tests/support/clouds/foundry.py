"""A stand-in for a Foundry resource, whose deployments are the models of the stand-in for Anthropic's API."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from support.clouds.server import CloudServer, Received, Upstream, passed, running

_BASE = "/anthropic"


@dataclass
class Resource:
    """What the stand-in accepts: API keys, tokens of Entra and deployments. `counts` is whether it counts tokens."""

    api_keys: set[str] = field(default_factory=set)
    deployments: set[str] = field(default_factory=set)
    counts: bool = True
    tokens: set[str] = field(default_factory=set)


@contextmanager
def running_foundry(resource: Resource, upstream_url: str) -> Iterator[CloudServer]:
    """Run the stand-in, whose base address ends with `/anthropic`."""

    async def handle(request: web.Request, received: Received, upstream: Upstream) -> web.StreamResponse:
        path = received.path.partition("?")[0].removeprefix(_BASE)
        refusal = _refusal(request, resource, path, received)
        return refusal or await _passed(await upstream.ask(path, received.json()), request)

    with running(handle, upstream_url) as server:
        server.url += _BASE
        yield server


def _refusal(request: web.Request, resource: Resource, path: str, received: Received) -> web.Response | None:
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if request.headers.get("x-api-key") not in resource.api_keys and token not in resource.tokens:
        return _error(401, "401", "Access denied due to invalid subscription key or wrong API endpoint.")
    if path not in {"/v1/messages", "/v1/messages/count_tokens"} or (path.endswith("tokens") and not resource.counts):
        return _error(404, "404", "Resource not found")
    if received.json()["model"] not in resource.deployments:
        return _error(404, "DeploymentNotFound", "The API deployment for this resource does not exist.")
    return None


async def _passed(answer: aiohttp.ClientResponse, request: web.Request) -> web.StreamResponse:
    if answer.status == 429:
        return _error(429, "RateLimitReached", "Requests have exceeded the rate limit of the deployment.")
    return await passed(answer, request)


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message}}, status=status)
