"""The connection to one MCP server, made again whenever it is lost, and the tools that the server offers."""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog
from mcp.shared.exceptions import MCPError

from agent_service.config.tools import Entry
from agent_service.telemetry.redact import for_log
from agent_service.tooling.credentials import Credentials
from agent_service.tooling.kinds import kind_of
from agent_service.tooling.listing import MOST_TOOLS, Listed, Selection, digest
from agent_service.tooling.session import Session

_log = structlog.get_logger(__name__)

_FIRST_RETRY_SECONDS = 0.25
_LAST_RETRY_SECONDS = 10.0
_MOST_NAMES = 10
_LONGEST_NAME = 64

OnChange = Callable[[], None]


@dataclass(frozen=True, slots=True)
class About:
    """What a server stated last: its name and version, the revision of the protocol, and its list of tools.

    `tools` is the number of tools in the list, `unmatched` are the globs of `allow` that match none of them, and
    `digest` changes with the names, descriptions and schemas of those that are offered.
    """

    server: str
    revision: str
    tools: int
    unmatched: tuple[str, ...]
    digest: str


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
        self.listed: tuple[Listed, ...] = ()
        self.about: About | None = None
        self.kind: str | None = None
        self._on_change = on_change
        self._session: Session | None = None
        self._lost_at: float | None = None
        self._tried = asyncio.Event()
        self._ready = asyncio.Event()
        self._left_out: object = None
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Start to connect, in a task of its own."""
        self._spawn(asyncio.create_task(self._run(), name=f"connection to {self.entry.name}"))

    async def close(self) -> None:
        """Close the connection; calls in progress end."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    @property
    def is_up(self) -> bool:
        """Whether the server is connected."""
        return self._session is not None

    def is_usable(self, grace_seconds: float) -> bool:
        """Return whether the server is connected, or was until `grace_seconds` ago: it may only restart."""
        if self._session is not None:
            return True
        now = asyncio.get_running_loop().time()
        return self._lost_at is not None and now - self._lost_at < grace_seconds

    async def tried(self, deadline: float) -> None:
        """Wait until the first attempt to connect has ended, at most until `deadline`, a time of the event loop."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await self._tried.wait()

    async def session(self, deadline: float) -> Session | None:
        """Return the current session; None if there is none until `deadline`, a time of the event loop."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                while self._session is None:
                    await self._ready.wait()
        return self._session

    def lost(self, session: Session) -> None:
        """Connect again, because a call found `session` unusable."""
        if self._session is session:
            self._disconnected()
            session.abandon()

    async def _run(self) -> None:
        delay = _FIRST_RETRY_SECONDS
        while True:
            session = Session(self.entry, self.credentials, self._on_list)
            # It may last longer than this attempt, for the calls that are in progress.
            self._spawn(asyncio.create_task(session.run(), name=f"session with {self.entry.name}"))
            await session.over.wait()
            if self._session is session:
                self._disconnected()
            if session.error is not None:
                self._failed(session, session.error)
            self._tried.set()
            self._on_change()
            if session.was_listed:
                delay = _FIRST_RETRY_SECONDS
            # Apart from each other, so that the pods of an agent do not all reach a restarted server at once.
            await asyncio.sleep(delay * (1 + secrets.randbelow(100) / 100) / 2)
            delay = min(2 * delay, _LAST_RETRY_SECONDS)

    def _spawn(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_list(self, session: Session, chosen: Selection, malformed: int) -> None:
        before, self.listed = self.listed, chosen.tools
        self.about = About(
            for_log(self.credentials.without_secrets(session.server))[:_LONGEST_NAME],
            session.protocol_version,
            chosen.listed + malformed,
            chosen.unmatched,
            self.about.digest if self.about is not None and before == chosen.tools else digest(chosen.tools),
        )
        if self._lost_at is not None or self._session is not None:
            self._report_changes(before)
        self._report_left_out(chosen, malformed)
        if self._session is None:
            self._session, self.kind, self._lost_at = session, None, None
            self._ready.set()
            self._tried.set()
            _log.info(
                "Tool server was connected",
                server=self.entry.name,
                protocol_version=session.protocol_version,
                tools=len(self.listed),
            )
        self._on_change()

    def _report_changes(self, before: tuple[Listed, ...]) -> None:
        old, new = ({tool.name: tool for tool in tools} for tools in (before, self.listed))
        names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
        if names:
            _log.warning("Tools of a server changed", server=self.entry.name, tools=_shown(names), count=len(names))

    def _report_left_out(self, chosen: Selection, malformed: int) -> None:
        left_out = (chosen.invalid, chosen.repeated, chosen.cut, malformed)
        if any(left_out) and left_out != self._left_out:
            _log.warning(
                "Some tools of a server are not offered",
                server=self.entry.name,
                invalid=_shown(chosen.invalid),
                malformed=malformed,
                repeated=_shown(chosen.repeated),
                beyond_limit=chosen.cut,
                limit=MOST_TOOLS,
            )
        self._left_out = left_out

    def _disconnected(self) -> None:
        self._session = None
        self._ready.clear()
        self._lost_at = asyncio.get_running_loop().time()

    def _failed(self, session: Session, error: Exception) -> None:
        first = _first(error)
        exchange = session.exchange
        kind = kind_of(exchange, first)
        # The text of any other exception may quote what the server sent.
        stated = first.message if isinstance(first, MCPError) else type(first).__name__
        detail = exchange.detail or (stated if exchange.failure is None else None)
        if kind != self.kind:
            _log.warning(
                "Tool server is unavailable",
                server=self.entry.name,
                kind=kind,
                detail=None if detail is None else for_log(self.credentials.without_secrets(detail)),
            )
        self.kind = kind


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _shown(names: tuple[str, ...] | list[str]) -> list[str]:
    return [for_log(name)[:_LONGEST_NAME] for name in names[:_MOST_NAMES]]
