"""uvicorn with draining: it keeps listening while work is in flight, so that probes and clients get an answer."""

import asyncio
import gc
import math
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType
from typing import Literal

import structlog
import uvicorn
from fastapi import FastAPI

from agent_service.bounds import bounds
from agent_service.config.settings import Settings
from agent_service.lifecycle import CUT_SECONDS, DRAIN_MARGIN_SECONDS, Lifecycle
from agent_service.server.connections import Connections
from agent_service.server.http_guard import HEAD_SECONDS, GuardedProtocol, guarded

_log = structlog.get_logger(__name__)

# uvicorn ticks ten times a second.
_TICKS_OF_A_SWEEP = 10

# Between the signal and the first refusal. By then the event loop has run several times and has read everything that
# arrived before the signal, also in a pod that had no CPU for a while.
_TICKS_BEFORE_DRAINING = 2


class Server(uvicorn.Server):
    """Drains at the first SIGTERM or SIGINT, then exits with code 0. A second signal cuts what is left."""

    def __init__(
        self,
        app: FastAPI,
        lifecycle: Lifecycle,
        settings: Settings,
        *,
        on_listening: Callable[[], None],
        opens_websockets: bool = False,
    ) -> None:
        bound = bounds(settings)
        self._connections = Connections(most=bound.connections, write_seconds=settings.write_timeout_seconds)
        base, websocket = _protocols(self._connections, opens_websockets=opens_websockets)
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="on",
                http=guarded(min(HEAD_SECONDS, settings.request_timeout_seconds), self._connections, base),
                ws=websocket,
                # Compression would take memory for each WebSocket, and allow decompression bombs.
                ws_per_message_deflate=False,
                log_config=None,
                access_log=False,
                server_header=False,
                # uvicorn would trust X-Forwarded-For from 127.0.0.1; middleware/identify.py decides what to trust.
                proxy_headers=False,
                backlog=bound.backlog,
                timeout_keep_alive=settings.keep_alive_seconds,
                timeout_graceful_shutdown=CUT_SECONDS,
            )
        )
        self._lifecycle = lifecycle
        self._drain_seconds = settings.longest_answer_seconds + DRAIN_MARGIN_SECONDS
        # A task that is returned to the queue is not lost, so draining does not wait for a long one.
        self._task_seconds = settings.request_timeout_seconds + DRAIN_MARGIN_SECONDS
        self._cut_at = self._return_tasks_at = math.inf
        self._ticks_since = 0
        self._on_listening = on_listening

    @property
    def _stopping(self) -> bool:
        return self._cut_at < math.inf

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until the end.

        The server handles signals from the start of this call. If an earlier handler raised while the event loop is
        created, a half-created loop would remain.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle_exit)
        super().run(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and report it once connections are accepted."""
        await super().startup(sockets)
        # Objects created by the imports stay forever. The collector would walk them repeatedly under load
        # (measured: p99 of /chat 174 ms when it does, 41 ms when it does not).
        gc.collect()
        gc.freeze()
        # A request leaves no cycles, so there is almost nothing to collect. Searching all requests in flight as often
        # as the default (700, 10, 10) took a tenth of the processor time.
        gc.set_threshold(10_000, 20, 10)
        self._on_listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start to drain, or cut if already draining.

        uvicorn's own handler would also raise the signal again at the end, which changes the exit code.
        """
        if self._stopping:
            self.cut()
        else:
            self.drain()

    def drain(self) -> None:
        """Accept no new work. End when the rest is done, or after the time that it may take."""
        if not self._stopping:
            self._cut_at = time.monotonic() + self._drain_seconds
            self._return_tasks_at = time.monotonic() + self._task_seconds

    def cut(self) -> None:
        """End now, and cut what is in flight."""
        self.drain()
        self._lifecycle.begin_draining()
        self._cut_at = 0

    async def on_tick(self, counter: int) -> bool:
        """Check ten times a second whether draining is done, and sweep the connections once a second."""
        if counter % _TICKS_OF_A_SWEEP == 0:
            self._connections.sweep()
        if self._stopping and not self._lifecycle.draining:
            self._ticks_since += 1
            if self._ticks_since == _TICKS_BEFORE_DRAINING:
                self._lifecycle.begin_draining()
        if self._lifecycle.draining and not self.should_exit:
            in_flight, tasks, calls = self._lifecycle.in_flight, self._lifecycle.tasks, self._lifecycle.calls
            now = time.monotonic()
            done = tasks == 0 and calls == 0
            if now >= self._cut_at or (in_flight == 0 and (done or now >= self._return_tasks_at)):
                _log.info("Draining ended", requests_cut=in_flight, tasks_handed_back=tasks, calls_cut=calls)
                self.should_exit = True
        return await super().on_tick(counter)


def _protocols(
    connections: Connections, *, opens_websockets: bool
) -> tuple[type[GuardedProtocol], type[asyncio.Protocol] | Literal["none"]]:
    """Return the protocol classes of HTTP and of WebSockets."""
    if not opens_websockets:
        return GuardedProtocol, "none"
    # Only an agent that needs it loads the library.
    from agent_service.server.websocket import UpgradableProtocol, websockets  # noqa: PLC0415

    return UpgradableProtocol, websockets(connections)
