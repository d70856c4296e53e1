"""One session with an MCP server: the handshake, the list of tools, and the server's notifications of changes.

The SDK's scopes of cancellation belong to the task that opened a session, so one task runs a session from its beginning
to its end. Calls are made in their callers' tasks.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any

import httpx2
import mcp_types as types
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost
from mcp.shared.exceptions import MCPError
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS

from agent_service import __version__
from agent_service.config.tools import Entry
from agent_service.tooling.credentials import Credentials
from agent_service.tooling.exchange import Exchange, current
from agent_service.tooling.http import LARGEST_LIST_BYTES, Transport
from agent_service.tooling.listing import MOST_LISTED, Selection, select
from agent_service.tooling.sieve import sifted

# For the handshake, and for a whole list.
_CONNECT_SECONDS = 15.0
_LIST_SECONDS = 15.0
# Not all servers report changes, and a session can end unnoticed: the list is read again at this interval.
_CHECK_SECONDS = 60.0
# The stream of notifications of the revision of 2025-11-25 opens after the handshake, at an unknown time.
_FIRST_CHECK_SECONDS = 2.0
# Changes within this time after the first one are read together.
_BURST_SECONDS = 0.5
_FIRST_RETRY_SECONDS = 0.25
_MOST_PAGES = 100
# JSON escapes at most double what a text of a result takes, and base64 and the frame are within the other half.
_WIRE_FACTOR = 4
_WIRE_EXTRA_BYTES = 64 * 1024

OnList = Callable[["Session", Selection, int], None]


class Session:
    """A session with one server."""

    def __init__(self, entry: Entry, credentials: Credentials, on_list: OnList) -> None:
        """Set up a session.

        Args:
            entry: the entry of the server.
            credentials: the credentials for it.
            on_list: called with each list of tools, and how many of its tools were not of the required form.
        """
        self.over = asyncio.Event()
        self.error: Exception | None = None
        self.was_listed = False
        self.largest_answer_bytes = _WIRE_FACTOR * entry.max_result_bytes + _WIRE_EXTRA_BYTES
        self.exchange = Exchange(None, LARGEST_LIST_BYTES)
        self._entry = entry
        self._credentials = credentials
        self._on_list = on_list
        self._client: Client | None = None
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._in_flight = 0
        self._changed = False
        self._abandoned = False
        self._malformed = 0

    @property
    def protocol_version(self) -> str:
        """The revision of the protocol that was negotiated."""
        return "" if self._client is None else self._client.protocol_version

    @property
    def server(self) -> str:
        """The name and version that the server states; empty if it states none."""
        stated = None if self._client is None else self._client.server_info
        return "" if stated is None else f"{stated.name} {stated.version}".strip()

    @property
    def is_bound(self) -> bool:
        """Whether the revision has sessions, which belong to the client that opened them."""
        return self.protocol_version in HANDSHAKE_PROTOCOL_VERSIONS

    @asynccontextmanager
    async def of_caller(self, exchange: Exchange) -> AsyncIterator[Client]:
        """Open a session for one call with its caller's token, and close it after the call.

        Args:
            exchange: the bounds of the handshake, with the caller's token.

        Raises:
            Exception: what the SDK raises, if there is no session; `exchange` has the reason.
        """
        token = current.set(exchange)
        own = Session(self._entry, self._credentials, lambda *_: None)
        try:
            async with own._connected(mode="legacy") as client:
                yield client
        finally:
            current.reset(token)

    async def run(self) -> None:
        """Connect and list the tools; then keep the list current until the session is unusable, which sets `over`.

        Calls in progress still end, because a session may be unusable for new requests only. `error` is why it ended.
        """
        self._bound(_CONNECT_SECONDS)
        try:
            async with self._connected() as client:
                try:
                    await self._list(client)
                    await self._keep(client)
                except Exception as error:
                    self.error = error
                self.over.set()
                await self._idle.wait()
        except Exception as error:
            self.error = self.error or error
        finally:
            self.over.set()

    def abandon(self) -> None:
        """End the session, because a call found it unusable."""
        self._abandoned = True
        self._wake.set()

    def check(self) -> None:
        """List the tools now, which shows whether the server is there."""
        self._wake.set()

    @contextmanager
    def calling(self) -> Iterator[Client]:
        """Yield the client for one call."""
        if self._client is None:
            raise RuntimeError("The session has not started.")
        self._in_flight += 1
        self._idle.clear()
        try:
            yield self._client
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    @asynccontextmanager
    async def _connected(self, mode: str = "auto") -> AsyncIterator[Client]:
        entry = self._entry
        allow_link_local = entry.mcp is not None and entry.mcp.allow_link_local
        transport = Transport(entry.url, self._credentials, allow_link_local=allow_link_local)
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(
                httpx2.AsyncClient(transport=transport, timeout=None, trust_env=False)
            )
            streams = streamable_http_client(
                entry.url,
                http_client=http,
                max_sse_event_size=max(LARGEST_LIST_BYTES, self.largest_answer_bytes),
            )
            self._client = Client(
                sifted(streams, self._on_malformed),
                mode=mode,
                client_info=types.Implementation(name="portside", version=__version__),
                message_handler=self._on_message,
                read_timeout_seconds=_LIST_SECONDS,
                # Its entries would outlive changes that a server does not report.
                cache=None,
            )
            async with asyncio.timeout(_CONNECT_SECONDS):
                await stack.enter_async_context(self._client)
            yield self._client

    async def _keep(self, client: Client) -> None:
        """List the tools again when they change and from time to time, until the session is abandoned."""
        watching = asyncio.create_task(self._watch(client))
        interval = _FIRST_CHECK_SECONDS
        try:
            while not self._abandoned:
                with suppress(TimeoutError):
                    async with asyncio.timeout(interval):
                        await self._wake.wait()
                interval = _CHECK_SECONDS
                is_due = self._wake.is_set()
                self._wake.clear()
                # A server that is busy with a call may not answer, and needs no check.
                if self._abandoned or (self._in_flight and not is_due):
                    continue
                if self._changed:
                    await asyncio.sleep(_BURST_SECONDS)
                self._changed = False
                self._bound(_LIST_SECONDS)
                await self._list(client)
        finally:
            watching.cancel()
            await asyncio.wait([watching])

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
                        # What changed between the list and the beginning of the stream was not reported.
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
        chosen = await asyncio.to_thread(select, found[:MOST_LISTED], self._entry.allow)
        self.was_listed = True
        self._on_list(self, chosen, self._malformed)

    def _bound(self, seconds: float) -> None:
        """Bound the requests that the current task sends from now on, and record their outcome."""
        self.exchange = Exchange(asyncio.get_running_loop().time() + seconds, LARGEST_LIST_BYTES)
        current.set(self.exchange)

    async def _on_message(self, message: types.ServerNotification | Exception) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self._on_list_changed()

    def _on_list_changed(self) -> None:
        self._changed = True
        self._wake.set()

    def _on_malformed(self, count: int) -> None:
        self._malformed += count
