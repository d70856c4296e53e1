"""The connection to one MCP server, in a task of its own, and its list of tools.

The SDK's scopes of cancellation belong to the task that opened a connection, so that task keeps it open and closes it.
Calls are made in their callers' tasks.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import mcp_types as types
import structlog
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost
from mcp.shared.exceptions import MCPError

from agent_service import __version__
from agent_service.config.tools import Entry
from agent_service.telemetry.redact import for_log
from agent_service.tooling.credentials import Credentials
from agent_service.tooling.exchange import Exchange, current
from agent_service.tooling.http import LARGEST_LIST_BYTES, Transport
from agent_service.tooling.listing import MOST_LISTED, MOST_TOOLS, Listed, select
from agent_service.tooling.sieve import sifted

_log = structlog.get_logger(__name__)

# For the handshake, and for a whole list.
_CONNECT_SECONDS = 15.0
_LIST_SECONDS = 15.0
# Not all servers report changes, and a session can end unnoticed: the list is read again at this interval.
_CHECK_SECONDS = 60.0
# Changes within this time after the first one are read together.
_BURST_SECONDS = 0.5
_FIRST_RETRY_SECONDS = 0.25
_LAST_RETRY_SECONDS = 10.0
_MOST_PAGES = 100
# JSON escapes at most double what a text of a result takes, and base64 and the frame are within the other half.
_WIRE_FACTOR = 4
_WIRE_EXTRA_BYTES = 64 * 1024

OnChange = Callable[[], None]


class Connection:
    """Keeps one server connected, and its list of tools current, until it is closed."""

    def __init__(self, entry: Entry, secrets_folder: Path, on_change: OnChange) -> None:
        """Set up the connection of an entry with a server.

        Args:
            entry: the entry of the definition.
            secrets_folder: the folder of the secrets.
            on_change: called when the list or the state of the server changes.
        """
        self.entry = entry
        self.credentials = Credentials(entry.mcp, secrets_folder)
        self.largest_answer_bytes = _WIRE_FACTOR * entry.max_result_bytes + _WIRE_EXTRA_BYTES
        self.listed: tuple[Listed, ...] = ()
        self.reason: str | None = None
        self._on_change = on_change
        self._client: Client | None = None
        self._down_since: float | None = None
        self._tried = asyncio.Event()
        self._ready = asyncio.Event()
        self._wake = asyncio.Event()
        self._broken = False
        self._changed = False
        self._exchange = Exchange(None, LARGEST_LIST_BYTES)
        self._malformed = 0
        self._warned: object = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start to connect, in a task of its own."""
        self._task = asyncio.create_task(self._run(), name=f"tools of {self.entry.name}")

    async def close(self) -> None:
        """Close the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    @property
    def is_up(self) -> bool:
        """Whether the server is connected."""
        return self._client is not None

    def is_usable(self, grace_seconds: float) -> bool:
        """Return whether the server is connected, or was until `grace_seconds` ago: it may only restart."""
        if self._client is not None:
            return True
        now = asyncio.get_running_loop().time()
        return self._down_since is not None and now - self._down_since < grace_seconds

    async def tried(self, deadline: float) -> None:
        """Wait until the first attempt to connect has ended, at most until `deadline`, a time of the event loop."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await self._tried.wait()

    async def client(self, deadline: float) -> Client | None:
        """Return the connected client; None if there is none until `deadline`, a time of the event loop."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                while self._client is None:
                    await self._ready.wait()
        return self._client

    def lost(self, client: Client) -> None:
        """Connect again, because `client` was found to be unusable."""
        if self._client is client:
            self._disconnected()
            self._broken = True
            self._wake.set()

    def check(self) -> None:
        """List the tools now, which shows whether the server is there."""
        self._wake.set()

    async def _run(self) -> None:
        delay = _FIRST_RETRY_SECONDS
        while True:
            self._broken = False
            self._bound(_CONNECT_SECONDS)
            try:
                async with self._connected() as client:
                    delay = _FIRST_RETRY_SECONDS
                    await self._keep(client)
            except Exception as error:
                self._failed(error)
            self._disconnected()
            # Apart from each other, so that the pods of an agent do not all reach a restarted server at once.
            await asyncio.sleep(delay * (1 + secrets.randbelow(100) / 100) / 2)
            delay = min(2 * delay, _LAST_RETRY_SECONDS)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Client]:
        entry = self.entry
        allow_link_local = entry.mcp is not None and entry.mcp.allow_link_local
        transport = Transport(entry.url, self.credentials, allow_link_local=allow_link_local)
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(
                httpx2.AsyncClient(transport=transport, timeout=None, trust_env=False)
            )
            streams = streamable_http_client(
                entry.url,
                http_client=http,
                max_sse_event_size=max(LARGEST_LIST_BYTES, self.largest_answer_bytes),
            )
            client = Client(
                sifted(streams, self._on_malformed),
                client_info=types.Implementation(name="portside", version=__version__),
                message_handler=self._on_message,
                read_timeout_seconds=_LIST_SECONDS,
                # Its entries would outlive changes that a server does not report.
                cache=None,
            )
            async with asyncio.timeout(_CONNECT_SECONDS):
                await stack.enter_async_context(client)
            await self._list(client)
            self._client, self._down_since, self.reason = client, None, None
            self._ready.set()
            self._tried.set()
            _log.info(
                "Tool server was connected",
                server=entry.name,
                protocol_version=client.protocol_version,
                tools=len(self.listed),
            )
            self._on_change()
            yield client

    async def _keep(self, client: Client) -> None:
        """List the tools again when they change and from time to time, until the connection is unusable."""
        watching = asyncio.create_task(self._watch(client))
        try:
            while not self._broken:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_CHECK_SECONDS):
                        await self._wake.wait()
                self._wake.clear()
                if self._broken:
                    return
                if self._changed:
                    await asyncio.sleep(_BURST_SECONDS)
                self._changed = False
                before = self.listed
                self._bound(_LIST_SECONDS)
                await self._list(client)
                if self.listed != before:
                    _log.warning(
                        "Tools of a server changed", server=self.entry.name, tools=_differing(before, self.listed)
                    )
                    self._on_change()
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    def _bound(self, seconds: float) -> None:
        """Bound the requests that the current task sends from now on, and record their outcome."""
        self._exchange = Exchange(asyncio.get_running_loop().time() + seconds, LARGEST_LIST_BYTES)
        current.set(self._exchange)

    async def _watch(self, client: Client) -> None:
        """Receive the changes that a server of the revision of 2026-07-28 reports, on a stream of their own."""
        current.set(None)
        delay = _FIRST_RETRY_SECONDS
        with suppress(ListenNotSupportedError):
            while True:
                with suppress(MCPError, SubscriptionLost, TimeoutError):
                    async with client.listen(tools_list_changed=True) as changes:
                        if not changes.honored.tools_list_changed:
                            return
                        delay = _FIRST_RETRY_SECONDS
                        # What changed while there was no stream was not reported.
                        self._on_list_changed()
                        async for _ in changes:
                            self._on_list_changed()
                await asyncio.sleep(delay)
                delay = min(2 * delay, _CHECK_SECONDS)

    async def _list(self, client: Client) -> None:
        found: list[tuple[str, str, Mapping[str, Any]]] = []
        self._malformed = 0
        cursor: str | None = None
        if client.server_capabilities.tools is not None:
            async with asyncio.timeout(_LIST_SECONDS):
                for _ in range(_MOST_PAGES):
                    page = await client.list_tools(cursor=cursor)
                    found += [(tool.name, tool.description or "", tool.input_schema) for tool in page.tools]
                    cursor = page.next_cursor
                    if cursor is None or len(found) >= MOST_LISTED:
                        break
        # Checking the schemas of a long list takes a second.
        chosen = await asyncio.to_thread(select, found[:MOST_LISTED], self.entry.allow)
        self.listed = chosen.tools
        problems = (chosen.invalid, chosen.repeated, chosen.cut, self._malformed)
        if any(problems) and problems != self._warned:
            _log.warning(
                "Some tools of a server are not offered",
                server=self.entry.name,
                invalid=list(map(_named, chosen.invalid[:10])),
                malformed=self._malformed,
                repeated=list(map(_named, chosen.repeated[:10])),
                beyond_limit=chosen.cut,
                limit=MOST_TOOLS,
            )
        self._warned = problems

    async def _on_message(self, message: types.ServerNotification | Exception) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self._on_list_changed()

    def _on_list_changed(self) -> None:
        self._changed = True
        self._wake.set()

    def _on_malformed(self, count: int) -> None:
        self._malformed += count

    def _disconnected(self) -> None:
        if self._client is not None:
            self._client = None
            self._ready.clear()
            self._down_since = asyncio.get_running_loop().time()

    def _failed(self, error: Exception) -> None:
        exchange = self._exchange
        first = _first(error)
        failure = "" if exchange.failure is None else exchange.failure.name.lower()
        reason = failure or ("timed_out" if isinstance(first, TimeoutError) else type(first).__name__)
        detail = exchange.detail or (first.message if isinstance(first, MCPError) and not failure else "")
        if reason != self.reason:
            _log.warning(
                "Tool server is unavailable",
                server=self.entry.name,
                reason=reason,
                detail=for_log(self.credentials.without_secrets(detail)) or None,
            )
        self.reason = reason
        self._disconnected()
        self._tried.set()
        self._on_change()


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _differing(before: tuple[Listed, ...], after: tuple[Listed, ...]) -> list[str]:
    old, new = ({tool.name: tool for tool in tools} for tools in (before, after))
    return [_named(name) for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)][:10]


def _named(name: str) -> str:
    return for_log(name)[:64]
