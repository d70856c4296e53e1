"""Several API processes on one port (API_WORKERS): started, watched, replaced and drained by one that serves nothing.

Each has a link to this process, a socket in place of its standard input: its orders come that way, and word that it is
well goes back. Signals are for this process alone, so that it matters not whether a Ctrl-C, an init or a service
manager sends them to one process or to all.
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

import structlog

from agent_service.config.settings import Settings
from agent_service.lifecycle import CUT_SECONDS, DRAIN_MARGIN_SECONDS, StartError
from agent_service.server.multiprocess.channel import BEAT_SECONDS, Assignment, Order, packed
from agent_service.telemetry import multiprocess_metrics

_log = structlog.get_logger(__name__)

_FAILED = 1
_SIGNALS = (signal.SIGTERM, signal.SIGINT)

# An event loop that has not turned for so long will not turn again. In steps of a second, as this process counts
# them, so that nobody is taken for hung because the whole machine stood still.
_SILENT_STEPS = 30
_START_STEPS = 120

# What ends sooner than this was never well. So many in a row, and the fault is not going to pass.
_WELL_SECONDS = 10.0
_MOST_FAILURES = 5
_FIRST_PAUSE_SECONDS = 0.2

# Beyond what a process itself takes to drain, and to cut what is left.
_END_MARGIN_SECONDS = 5.0


@contextmanager
def metrics_folder() -> Iterator[str]:
    """Make the folder that the processes' metrics are in, and remove it at the end.

    Raises:
        StartError: when there is nowhere to make it.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="portside-metrics-", ignore_cleanup_errors=True)
    except OSError as error:
        raise StartError(
            f"Several API processes need a temporary folder: {error.strerror}; set TMPDIR to one that can be written "
            "to, or API_WORKERS to 1."
        ) from None
    with folder as name:
        yield name


def supervise(settings: Settings, listener: socket.socket, folder: str, *, on_started: Callable[[], None]) -> int:
    """Run the processes until SIGTERM or SIGINT, then until they have drained; give the exit code.

    Args:
        settings: what they are told; it has the address of a Redis.
        listener: bound socket that they listen on.
        folder: where their metrics are.
        on_started: called once, when all of them answer.
    """
    supervisor = _Supervisor(settings, listener, folder, on_started)
    # Until the loop hears of them itself: what an earlier handler raised while it is made would leave half a loop
    # behind.
    for number in _SIGNALS:
        signal.signal(number, supervisor.end_at_once)
    return asyncio.run(supervisor.run())


class _Process:
    """One API process, seen from here."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._answers = False
        self._told_to_end = False
        self.pid = process.pid

    def send(self, order: Order) -> None:
        """Pass an order on. A process that is still starting has nothing to finish, and need not start."""
        self._told_to_end = True
        self._writer.write(order.value)
        if not self._answers:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def watch(self, on_started: Callable[[], None]) -> int:
        """Give its exit code when it ends; end it when it is silent for too long."""
        steps = 0
        while True:
            try:
                async with asyncio.timeout(BEAT_SECONDS):
                    said = await self._reader.read(1024)
            except TimeoutError:
                steps += 1
                allowed = _SILENT_STEPS if self._answers else _START_STEPS
                if steps == allowed and not self._told_to_end:
                    _log.error("API process was silent, killed it", pid=self.pid, seconds=allowed * BEAT_SECONDS)
                    self.kill()
                continue
            except ConnectionError:
                break
            if not said:
                break
            steps = 0
            if not self._answers:
                self._answers = True
                on_started()
        code = await self._process.wait()
        self._writer.close()
        return code


class _Supervisor:
    def __init__(
        self, settings: Settings, listener: socket.socket, folder: str, on_started: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._folder = folder
        self._on_started = on_started
        self._processes: dict[int, _Process] = {}
        self._starting = set(range(settings.api_workers))
        self._ending = asyncio.Event()
        self._code = 0
        self._end_at_once = False

    def end_at_once(self, _: int, __: FrameType | None) -> None:
        """End before anything begins."""
        self._end_at_once = True

    async def run(self) -> int:
        """Keep every place filled, until the end."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._on_signal)
        if self._end_at_once:
            self._end(0)
        async with asyncio.TaskGroup() as group:
            for place in range(self._settings.api_workers):
                group.create_task(self._keep(place))
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
        # What connects now is for the processes alone, until the last of them has gone.
        self._listener.close()
        seconds = self._settings.longest_answer_seconds + DRAIN_MARGIN_SECONDS + CUT_SECONDS + _END_MARGIN_SECONDS
        asyncio.get_running_loop().call_later(seconds, self._kill_all)

    def _send_all(self, order: Order) -> None:
        for process in self._processes.values():
            process.send(order)

    def _kill_all(self) -> None:
        for process in self._processes.values():
            _log.error("API process did not end, killed it", pid=process.pid)
            process.kill()

    async def _keep(self, place: int) -> None:
        failures = 0
        loop = asyncio.get_running_loop()
        while not self._ending.is_set():
            begun = loop.time()
            end = await self._live(place)
            if self._ending.is_set():
                return
            failures = failures + 1 if loop.time() - begun < _WELL_SECONDS else 0
            if self._starting or failures == _MOST_FAILURES:
                what = "could not start" if self._starting else "ended again and again"
                _log.error(f"API process {what}, gave up", **end)
                self._end(_FAILED)
                return
            pause = _FIRST_PAUSE_SECONDS * 2**failures
            _log.error("API process ended, replaced it", **end, after_seconds=pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._ending.wait()

    async def _live(self, place: int) -> dict[str, object]:
        """Run one process to its end; tell how it ended."""
        try:
            process = await self._start(place)
        except OSError as error:
            return {"error": error.strerror}
        self._processes[place] = process
        if self._ending.is_set():
            process.send(Order.DRAIN)
        code = await process.watch(lambda: self._started(place))
        del self._processes[place]
        multiprocess_metrics.forget_gauges(place, self._folder)
        return {"pid": process.pid, "code": code}

    def _started(self, place: int) -> None:
        if place in self._starting:
            self._starting.remove(place)
            # One that was told to end may still say that it is up: it is, to find no listener of ours any more.
            if not self._starting and not self._ending.is_set():
                self._on_started()

    async def _start(self, place: int) -> _Process:
        ours, theirs = socket.socketpair()
        listener = self._listener.fileno()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "agent_service.server.multiprocess.child",
                stdin=theirs.fileno(),
                pass_fds=(listener,),
                env={**os.environ, multiprocess_metrics.FOLDER: self._folder},
                # A Ctrl-C at the terminal is for this process.
                process_group=0,
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        writer.write(packed(Assignment(self._settings, place, listener)))
        return _Process(process, reader, writer)
