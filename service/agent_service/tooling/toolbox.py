"""The tools of an agent from its definition: what can be called now, and calls."""

import asyncio
import fnmatch
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from opentelemetry.trace import Tracer

from agent_service.agent.errors import UnreachableError
from agent_service.agent.tools import Caller, Tool, ToolResult, ToolUse
from agent_service.config.file_mark import file_mark
from agent_service.config.tools import Entry, ToolsFileError, read_tools
from agent_service.telemetry.metrics import Metrics
from agent_service.tooling.calls import RECONNECT_SECONDS, CallFailedError, call
from agent_service.tooling.connection import About, Connection
from agent_service.tooling.listing import Listed
from agent_service.tooling.naming import offered_names, plain_name
from agent_service.tooling.results import converted, text_block
from agent_service.tooling.room import Room
from agent_service.tooling.telemetry import Account, executing, finish, log_call, log_content

_log = structlog.get_logger(__name__)

# The first turns after the start wait this long for servers that are not connected yet.
_START_SECONDS = 5.0
_MOST_TOOLS = 256

# The oldest generally available version of each: every model takes it (Claude docs, "Tool reference").
_BUILTIN = {
    "web_search": {"type": "web_search_20250305", "name": "web_search"},
    "web_fetch": {"type": "web_fetch_20250910", "name": "web_fetch"},
    "code_execution": {"type": "code_execution_20250825", "name": "code_execution"},
}


@dataclass(frozen=True, slots=True)
class ServerState:
    """The state of a server: whether it is connected, else why not in one word (None before the first attempt).

    `is_needed` is whether turns fail without it, `offered` the number of its tools that the model is offered, and
    `renamed` the names of those whose own name another tool has too. `about` is None until it was connected once.
    """

    name: str
    is_up: bool
    kind: str | None
    is_needed: bool
    offered: int
    renamed: tuple[str, ...]
    about: About | None


class McpToolbox:
    """The tools of the entries of a TOOLS_FILE, which is read again when it changes."""

    def __init__(
        self, file: Path, secrets: Path, *, metrics: Metrics, tracer: Tracer, logs_content: bool = False
    ) -> None:
        """Set up the tools. `running` connects the servers.

        Args:
            file: the definition.
            secrets: the folder of the secrets that it refers to.
            metrics: count the calls.
            tracer: traces the calls.
            logs_content: whether to log the input and result of calls.

        Raises:
            ToolsFileError: if the definition cannot be used.
        """
        self._file = file
        self._secrets = secrets
        self._tracer = tracer
        self._logs_content = logs_content
        self._account = Account(metrics)
        self._room = Room()
        self._mark = file_mark(file)
        self._entries = read_tools(file)
        self._connections: dict[str, Connection] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._offered: dict[str, tuple[Connection, Tool]] | None = None

    @property
    def server_tools(self) -> Sequence[Mapping[str, Any]]:
        """Tools that the model API runs itself, in its own form (`builtin` in the definition)."""
        return [_BUILTIN[entry.builtin] for entry in self._entries if entry.builtin is not None]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the servers connected while the context lasts. It does not wait for them."""
        self._apply(self._entries)
        try:
            yield
        finally:
            connections, self._connections, self._offered = list(self._connections.values()), {}, None
            await asyncio.gather(*(each.close() for each in connections), *self._closing)

    async def tools(self) -> Sequence[Tool]:
        """Return the tools that can be called now, in a stable order.

        A server that was just lost still counts: it may only restart, and a call waits for it.

        Raises:
            UnreachableError: when a server is unavailable that the agent cannot do without (`onUnavailable: fail`).
        """
        self._reload()
        connections = list(self._connections.values())
        deadline = asyncio.get_running_loop().time() + _START_SECONDS
        for each in connections:
            await each.tried(deadline)
        usable = {each.entry.name for each in connections if each.is_usable(RECONNECT_SECONDS)}
        for each in connections:
            if each.entry.on_unavailable == "fail" and each.entry.name not in usable:
                raise UnreachableError("The server of a tool that this agent needs is unavailable.", kind="tools")
        return [tool for _, tool in self._current().values() if tool.server in usable]

    def find(self, name: str) -> Tool | None:
        """Return the tool with this name; None if there is none now."""
        found = self._current().get(name)
        return None if found is None else found[1]

    async def call(self, use: ToolUse, caller: Caller) -> ToolResult:
        """Call a tool and return its result. A call that fails has a result with the error, which is for the model."""
        self._reload()
        found = self._current().get(use.name)
        server = None if found is None else found[1].server
        outcome, detail = "cancelled", None
        started = time.perf_counter()
        with executing(self._tracer, use, server) as span:
            try:
                result = await self._call(found, use, caller)
                outcome = result.outcome
            except CallFailedError as error:
                outcome, detail = error.outcome, error.detail
                result = self._failed(use, str(error), outcome, found, caller)
            finally:
                seconds = time.perf_counter() - started
                self._account.count(server, "" if found is None else found[1].original, outcome, seconds)
                finish(span, outcome)
                log_call(use, server, outcome, seconds, detail)
        if self._logs_content:
            log_content(use, result)
        return result

    def states(self) -> Sequence[ServerState]:
        """Return the state of each server, in the order of the definition."""
        offered: dict[str, list[Tool]] = {}
        for _, tool in self._current().values():
            offered.setdefault(tool.server, []).append(tool)
        return [
            ServerState(
                name,
                each.is_up,
                each.kind,
                each.entry.on_unavailable == "fail",
                len(offered.get(name, ())),
                tuple(tool.name for tool in offered.get(name, ()) if tool.name != plain_name(tool.original)),
                each.about,
            )
            for name, each in self._connections.items()
        ]

    async def _call(self, found: tuple[Connection, Tool] | None, use: ToolUse, caller: Caller) -> ToolResult:
        if found is None:
            raise CallFailedError("There is no tool of this name.", "unknown_tool")
        connection, tool = found
        entry = connection.entry
        if tool.asks and not caller.approved:
            raise CallFailedError("The call did not run: calls of this tool need an approval.", "not_approved")
        left = min(entry.timeout_seconds, caller.deadline - time.time())

        def without_secrets(text: str) -> str:
            return connection.credentials.without_secrets(text, caller.token)

        with self._room.share() as share:
            answer = await call(
                connection,
                tool.original,
                use.input,
                deadline=asyncio.get_running_loop().time() + left,
                caller_token=caller.token,
                share=share,
            )
            # Texts and images of megabytes take a while to convert.
            content = await asyncio.to_thread(converted, answer, entry.max_result_bytes, without_secrets)
        return ToolResult(use.id, content, is_error=answer.is_error, outcome="error" if answer.is_error else "ok")

    def _failed(
        self, use: ToolUse, text: str, outcome: str, found: tuple[Connection, Tool] | None, caller: Caller
    ) -> ToolResult:
        if found is not None:
            text = found[0].credentials.without_secrets(text, caller.token)
        return ToolResult(use.id, (text_block(text),), is_error=True, outcome=outcome)

    def _reload(self) -> None:
        """Apply the definition if its file changed. A faulty one is logged, and the one before stays in force."""
        mark = file_mark(self._file)
        if mark == self._mark:
            return
        self._mark = mark
        try:
            entries = read_tools(self._file)
        except ToolsFileError as error:
            _log.error("TOOLS_FILE could not be used, kept the previous tools", file=str(self._file), faults=str(error))
            return
        if entries != self._entries:
            self._entries = entries
            self._apply(entries)
            _log.info("TOOLS_FILE changed, applied the new tools", file=str(self._file), entries=len(entries))

    def _apply(self, entries: Sequence[Entry]) -> None:
        before = self._connections
        self._connections = {}
        for entry in entries:
            if entry.builtin is not None:
                continue
            kept = before.get(entry.name)
            if kept is not None and kept.entry == entry:
                self._connections[entry.name] = before.pop(entry.name)
                continue
            connection = Connection(entry, self._secrets, self._on_change)
            connection.start()
            self._connections[entry.name] = connection
            self._account.set_state(entry.name, is_up=False, kind=None, digest=None)
        for name, connection in before.items():
            task = asyncio.create_task(connection.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            if name not in self._connections:
                self._account.forget(name)
        self._on_change()

    def _on_change(self) -> None:
        self._offered = None
        for name, each in self._connections.items():
            digest = None if each.about is None else each.about.digest
            self._account.set_state(name, is_up=each.is_up, kind=each.kind, digest=digest)
            self._account.offer(name, [tool.name for tool in each.listed])

    def _current(self) -> dict[str, tuple[Connection, Tool]]:
        """Return all listed tools by the names that they are offered under."""
        if self._offered is None:
            names = offered_names(
                {name: [tool.name for tool in each.listed] for name, each in self._connections.items()},
                [str(tool["name"]) for tool in self.server_tools],
            )
            offered = [
                (each, _offered(tool, each.entry, names[name, tool.name]))
                for name, each in self._connections.items()
                for tool in each.listed
            ]
            if len(offered) > _MOST_TOOLS:
                _log.warning("Tools beyond the limit are not offered", limit=_MOST_TOOLS, tools=len(offered))
            self._offered = {tool.name: (each, tool) for each, tool in offered[:_MOST_TOOLS]}
        return self._offered


def _offered(tool: Listed, entry: Entry, name: str) -> Tool:
    asks = any(fnmatch.fnmatchcase(tool.name, glob) for glob in entry.approve)
    return Tool(name, tool.description, tool.input_schema, entry.name, tool.name, asks)
