"""A supervisor of several API processes on one port (API_WORKERS), which serves no requests itself.

It starts, watches, replaces and drains the processes. Each has a link to the supervisor: a socket in place of its
standard input. Orders arrive on the link, and heartbeats go back. Signals are for the supervisor alone, so it does not
matter whether a Ctrl-C, an init or a service manager sends them to one process or to all.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple

import structlog

from agent_service.config.settings import Settings
from agent_service.lifecycle import CUT_SECONDS, DRAIN_MARGIN_SECONDS, StartError
from agent_service.server.multiprocess.channel import BEAT_SECONDS, Assignment, Order, packed
from agent_service.telemetry import multiprocess_metrics

_log = structlog.get_logger(__name__)

_FAILED = 1
_SIGNALS = (signal.SIGTERM, signal.SIGINT)

# An event loop that has not run for so long will not run again. Counted in steps of one second by this process, so
# that a pause of the whole machine does not make a process look hung.
_SILENT_STEPS = 30
_START_STEPS = 120

# A process that ends sooner than this was never healthy. After so many in a row, the problem will not go away.
_HEALTHY_SECONDS = 10.0
_MOST_FAILURES = 5
_FIRST_PAUSE_SECONDS = 0.2

# Margin beyond the time that a process itself takes to drain, and to cut what is left.
_END_MARGIN_SECONDS = 5.0


@contextmanager
def metrics_folder() -> Iterator[str]:
    """Create the folder for the metrics of the processes, and remove it at the end.

    Raises:
        StartError: when the folder cannot be created.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="portside-metrics-", ignore_cleanup_errors=True)
    except OSError as error:
        raise StartError(
            f"Several API processes need a temporary folder: {error.strerror}; set TMPDIR to a writable one, or "
            "API_WORKERS to 1."
        ) from None
    with folder as name:
        yield name


class Listeners(NamedTuple):
    """The bound sockets that all processes listen on: that of the API, and that of the gateway if there is one."""

    api: socket.socket
    gateway: socket.socket | None = None

    def close(self) -> None:
        """Close the sockets in this process."""
        self.api.close()
        if self.gateway is not None:
            self.gateway.close()


def supervise(settings: Settings, listeners: Listeners, folder: str, *, on_started: Callable[[], None]) -> int:
    """Run the processes until SIGTERM or SIGINT, then until they have drained. Return the exit code.

    Args:
        settings: settings of the processes, with the address of a Redis.
        listeners: bound sockets that they listen on.
        folder: folder of their metrics.
        on_started: called once, when all of them answer.
    """
    supervisor = _Supervisor(settings, listeners, folder, on_started)
    # Until the loop has its own handlers: if an earlier handler raised while the loop is created, a half-created loop
    # would remain.
    for number in _SIGNALS:
        signal.signal(number, supervisor.end_at_once)
    return asyncio.run(supervisor.run())


class _Process:
    """One API process, as the supervisor sees it."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._answers = False
        self._ordered_to_end = False
        self.pid = process.pid

    def send(self, order: Order) -> None:
        """Send an order. A process that is still starting has nothing to finish, so it is terminated."""
        self._ordered_to_end = True
        self._writer.write(order.value)
        if not self._answers:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    def kill(self) -> None:
        """Kill the process."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def watch(self, on_started: Callable[[], None]) -> int:
        """Return the exit code when the process ends. Kill it when it is silent for too long."""
        steps = 0
        while True:
            try:
                async with asyncio.timeout(BEAT_SECONDS):
                    received = await self._reader.read(1024)
            except TimeoutError:
                steps += 1
                allowed = _SILENT_STEPS if self._answers else _START_STEPS
                if steps == allowed and not self._ordered_to_end:
                    _log.error("API process sent no heartbeat, killed it", pid=self.pid, seconds=allowed * BEAT_SECONDS)
                    self.kill()
                continue
            except ConnectionError:
                break
            if not received:
                break
            steps = 0
            if not self._answers:
                self._answers = True
                on_started()
        code = await self._process.wait()
        self._writer.close()
        return code


class _Supervisor:
    def __init__(self, settings: Settings, listeners: Listeners, folder: str, on_started: Callable[[], None]) -> None:
        self._settings = settings
        self._listeners = listeners
        self._folder = folder
        self._on_started = on_started
        self._processes: dict[int, _Process] = {}
        self._starting = set(range(settings.api_workers))
        self._ending = asyncio.Event()
        self._code = 0
        self._end_at_once = False

    def end_at_once(self, _: int, __: FrameType | None) -> None:
        """End before any process starts."""
        self._end_at_once = True

    async def run(self) -> int:
        """Keep every slot filled until the end, and return the exit code."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._on_signal)
        if self._end_at_once:
            self._end(0)
        async with asyncio.TaskGroup() as group:
            for slot in range(self._settings.api_workers):
                group.create_task(self._keep(slot))
        _log.info("All API processes ended")
        return self._code

    def _on_signal(self) -> None:
        if self._ending.is_set():
            self._send_all(Order.CUT)
        else:
            self._end(0)

    def _end(self, code: int) -> None:
        if self._ending.is_set():
            return
        self._code = code
        self._ending.set()
        self._send_all(Order.DRAIN)
        # From now on only the processes accept connections, until the last of them has ended.
        self._listeners.close()
        seconds = self._settings.longest_answer_seconds + DRAIN_MARGIN_SECONDS + CUT_SECONDS + _END_MARGIN_SECONDS
        asyncio.get_running_loop().call_later(seconds, self._kill_all)

    def _send_all(self, order: Order) -> None:
        for process in self._processes.values():
            process.send(order)

    def _kill_all(self) -> None:
        for process in self._processes.values():
            _log.error("API process did not end, killed it", pid=process.pid)
            process.kill()

    async def _keep(self, slot: int) -> None:
        failures = 0
        loop = asyncio.get_running_loop()
        while not self._ending.is_set():
            started = loop.time()
            end = await self._live(slot)
            if self._ending.is_set():
                return
            failures = failures + 1 if loop.time() - started < _HEALTHY_SECONDS else 0
            if self._starting or failures == _MOST_FAILURES:
                what = "could not start" if self._starting else "ended repeatedly"
                _log.error(f"API process {what}, gave up", **end)
                self._end(_FAILED)
                return
            pause = _FIRST_PAUSE_SECONDS * 2**failures
            _log.error("API process ended, replaced it", **end, after_seconds=pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._ending.wait()

    async def _live(self, slot: int) -> dict[str, object]:
        """Run one process to its end, and return how it ended."""
        try:
            process = await self._start(slot)
        except OSError as error:
            return {"error": error.strerror}
        self._processes[slot] = process
        if self._ending.is_set():
            process.send(Order.DRAIN)
        code = await process.watch(lambda: self._started(slot))
        del self._processes[slot]
        multiprocess_metrics.forget_gauges(slot, self._folder)
        return {"pid": process.pid, "code": code}

    def _started(self, slot: int) -> None:
        if slot in self._starting:
            self._starting.remove(slot)
            # A process that was ordered to end may still report that it is up, but our listener is already closed.
            if not self._starting and not self._ending.is_set():
                self._on_started()

    async def _start(self, slot: int) -> _Process:
        ours, theirs = socket.socketpair()
        listener = self._listeners.api.fileno()
        gateway = None if self._listeners.gateway is None else self._listeners.gateway.fileno()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "agent_service.server.multiprocess.child",
                stdin=theirs.fileno(),
                pass_fds=(listener,) if gateway is None else (listener, gateway),
                env={**os.environ, multiprocess_metrics.FOLDER: self._folder},
                # A Ctrl-C at the terminal is for the supervisor alone.
                process_group=0,
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        writer.write(packed(Assignment(self._settings, slot, listener, gateway)))
        return _Process(process, reader, writer)
