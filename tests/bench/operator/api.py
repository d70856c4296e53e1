"""The client of the bench: plain aiohttp, with no other layer that could be slow."""

import asyncio
import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import yaml

from testbed.errors import TestbedError

T = TypeVar("T")
Document = dict[str, Any]

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
# As many as the operator has workers, so that the comparison is at the same concurrency.
AT_A_TIME = 16
USER_AGENT = "portside-bench"


class Api:
    """Requests to the API server as its administrator."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self._session = session
        self._server = server

    async def call(
        self, method: str, path: str, body: Document | None = None, content_type: str = "application/json"
    ) -> Document:
        """Send one request and return the response. Raises TestbedError if it is refused."""
        data = None if body is None else json.dumps(body, separators=(",", ":"))
        async with self._session.request(
            method, self._server + path, data=data, headers={"Content-Type": content_type}
        ) as response:
            text = await response.read()
            if response.status >= 400:
                raise TestbedError(f"{method} {path} was answered {response.status}: {text[:500]!r}")
            answer: Document = json.loads(text)
            return answer

    async def apply(self, path: str, body: Document, manager: str) -> Document:
        """Server-side apply."""
        return await self.call("PATCH", f"{path}?fieldManager={manager}&force=true", body, APPLY)

    async def list(self, path: str) -> list[Document]:
        """Return all objects of a collection."""
        items: list[Document] = []
        token = ""
        while True:
            page = await self.call("GET", f"{path}?limit=500&continue={token}")
            items += page["items"]
            token = page["metadata"].get("continue", "")
            if not token:
                return items

    async def version(self, path: str) -> str:
        """Return the current resourceVersion of a collection."""
        version: str = (await self.call("GET", f"{path}?limit=1"))["metadata"]["resourceVersion"]
        return version

    async def watch(self, path: str, version: str) -> AsyncIterator[Document]:
        """Yield every event of a collection since a resourceVersion, until cancelled."""
        url = f"{self._server}{path}?watch=true&resourceVersion={version}"
        async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=None)) as response:
            async for line in response.content:
                yield json.loads(line)


@asynccontextmanager
async def api(kubeconfig: Path) -> AsyncIterator[Api]:
    """Yield a client for the cluster of a kubeconfig with a client certificate, as the test bed writes it."""
    server, context = _way_in(kubeconfig)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context, limit=4 * AT_A_TIME),
        headers={"User-Agent": USER_AGENT},
        read_bufsize=2**22,  # a line of a watch is an object
    ) as session:
        yield Api(session, server)


async def each(items: Iterable[T], work: Callable[[T], Awaitable[object]], at_a_time: int = AT_A_TIME) -> None:
    """Await `work` for every item, a limited number at a time."""
    rest = iter(items)

    async def worker() -> None:
        for item in rest:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_a_time):
            group.create_task(worker())


def _way_in(kubeconfig: Path) -> tuple[str, ssl.SSLContext]:
    config = yaml.safe_load(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    with tempfile.NamedTemporaryFile() as both:
        for part in ("client-certificate-data", "client-key-data"):
            both.write(base64.b64decode(user[part]) + b"\n")
        both.flush()
        context.load_cert_chain(both.name)
    return cluster["server"], context
