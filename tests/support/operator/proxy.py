"""A reverse proxy to the API server that injects faults: errors, delays, broken connections."""

import asyncio
import base64
import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import aiohttp
import yaml
from aiohttp import web

from support.operator.serving import authority_in, serving

# RFC 9110, section 7.6.1; the headers that aiohttp sets by itself are dropped as well.
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "content-length"}

# Between two checks whether events are still held.
HELD_SECONDS = 0.02


@dataclass
class Request:
    """A request as received; `code` is the response's, once there is one, and `passed` whether the server sent it."""

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)
    code: int | None = None
    passed: bool = False

    @property
    def writes(self) -> bool:
        """Return whether it is a write."""
        return self.method != "GET" and "dryRun" not in self.query

    @property
    def watches(self) -> bool:
        """Return whether it is a watch."""
        return "watch" in self.query

    def is_about(self, name: str) -> bool:
        """Return whether it concerns the object of that name, or an Event of it."""
        return name in self.path.split("/") or f'"{name}"'.encode() in self.body


@dataclass(frozen=True)
class Harm:
    """The fault of a request: a delay, then an error, or a connection that closes instead of the server's response."""

    wait: float = 0.0
    answer: int | None = None
    retry_after: int | None = None
    hang_up: Literal["before", "after"] | None = None
    """Before the API server receives the request, or after it has carried it out."""


Rule = Callable[[Request], Harm | None]


class Proxy:
    """Forwards requests, or applies the fault of `rule`, and records them all. `muted` watches deliver no events, and
    those that are `held` deliver them later."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        context = next(each["context"] for each in config["contexts"] if each["name"] == config["current-context"])
        cluster = next(each["cluster"] for each in config["clusters"] if each["name"] == context["cluster"])
        self._server: str = cluster["server"]
        self._tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        self._session: aiohttp.ClientSession | None = None
        self.rule: Rule | None = None
        self.muted = False
        self.held = False
        self.seen: list[Request] = []
        self.kubeconfig = kubeconfig

    def writes_about(self, name: str) -> list[Request]:
        """Return the requests so far to change the object of that name, or those that contain its name."""
        return [each for each in list(self.seen) if each.writes and each.is_about(name)]

    async def handle(self, incoming: web.BaseRequest) -> web.StreamResponse:
        """Forward one request, or apply its fault."""
        request = Request(incoming.method, incoming.path, dict(incoming.query), await incoming.read())
        self.seen.append(request)
        harm = (self.rule(request) if self.rule is not None else None) or Harm()
        await asyncio.sleep(harm.wait)
        if harm.hang_up == "before":
            return _hang_up(incoming)
        if harm.answer is not None:
            request.code = harm.answer
            return _refusal(harm.answer, harm.retry_after)
        request.passed = True
        return await self._pass_on(incoming, request, hang_up=harm.hang_up is not None)

    async def _pass_on(self, incoming: web.BaseRequest, request: Request, *, hang_up: bool) -> web.StreamResponse:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=self._tls),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
            )
        headers = {name: value for name, value in incoming.headers.items() if name.lower() not in HOP_BY_HOP}
        url = f"{self._server}{incoming.raw_path}"
        async with self._session.request(incoming.method, url, headers=headers, data=request.body or None) as answer:
            request.code = answer.status
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
            if not request.watches:
                body = await answer.read()
                return _hang_up(incoming) if hang_up else web.Response(status=answer.status, headers=kept, body=body)
            if hang_up:
                return _hang_up(incoming)
            response = web.StreamResponse(status=answer.status, headers=kept)
            with suppress(ConnectionError, aiohttp.ClientError):
                await response.prepare(incoming)
                await self._stream(answer, response)
            return response

    async def _stream(self, answer: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
        rest = b""
        async for chunk in answer.content.iter_any():
            lines, newline, rest = (rest + chunk).rpartition(b"\n")
            while self.held:  # noqa: ASYNC110  it is set in the thread of the test
                await asyncio.sleep(HELD_SECONDS)
            if newline and not self.muted:
                await response.write(lines + newline)

    async def close(self) -> None:
        """Close the connections to the API server."""
        if self._session is not None:
            await self._session.close()


def _hang_up(incoming: web.BaseRequest) -> web.Response:
    if incoming.transport is not None:
        incoming.transport.abort()
    return web.Response()


def _refusal(code: int, retry_after: int | None) -> web.Response:
    """Return an error as the API server would (Kubernetes API conventions: "Response Status Kind")."""
    reasons = {409: "Conflict", 429: "TooManyRequests", 500: "InternalError"}
    status = {
        "apiVersion": "v1",
        "kind": "Status",
        "status": "Failure",
        "code": code,
        "reason": reasons.get(code, "Unknown"),
        "message": f"the test answers {code}",
    }
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return web.Response(status=code, headers=headers, text=json.dumps(status), content_type="application/json")


@contextmanager
def proxy_to(kubeconfig: Path, folder: Path) -> Iterator[Proxy]:
    """Yield a proxy to the cluster of `kubeconfig`, whose user has a token; the proxy's `kubeconfig` is in `folder`."""
    proxy = Proxy(kubeconfig)
    authority = authority_in(folder)
    with serving(proxy.handle, authority, proxy.close) as port:
        config: dict[str, Any] = yaml.safe_load(kubeconfig.read_text())
        for each in config["clusters"]:
            each["cluster"] = {
                "server": f"https://127.0.0.1:{port}",
                "certificate-authority-data": base64.b64encode(authority.certificate.read_bytes()).decode(),
            }
        proxy.kubeconfig = folder / "over-the-proxy"
        proxy.kubeconfig.write_text(yaml.safe_dump(config))
        yield proxy
