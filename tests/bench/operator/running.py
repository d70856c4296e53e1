"""The operator as a separate process: its progress, processor time and memory."""

import asyncio
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from bench import processes
from support.operator import COMMAND
from testbed.errors import TestbedError
from testbed.ports import free_port
from testbed.process import DIE_WITH_PARENT

_START_SECONDS = 180.0
_STOP_SECONDS = 20.0
_LOOK_SECONDS = 0.5
# Settled: this many checks in a row in which it finished nothing and used less than this share of a core.
_QUIET_LOOKS = 3
_QUIET_SHARE = 0.12
_LINES_OF_LOG = 15


class Running:
    """A running operator. Times are seconds of the epoch, as the API server's log has them."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, port: int) -> None:
        self._process = process
        self._log = log
        self._port = port
        self.launched = time.time()

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._process.pid

    @property
    def cpu_seconds(self) -> float:
        """Processor time so far."""
        return processes.cpu_seconds(self.pid)

    @property
    def resident_mb(self) -> float:
        """Resident memory, in megabytes (10**6)."""
        return processes.resident_mb(self.pid)

    async def count(self, metric: str) -> float:
        """Return the sum of one of its counters over all labels; 0 while it does not answer."""
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session,
                session.get(f"http://127.0.0.1:{self._port}/metrics") as response,
            ):
                text = await response.text()
        except aiohttp.ClientError:
            return 0.0
        return sum(float(value) for value in re.findall(rf"^{metric}(?:{{.*}})? (\S+)$", text, re.MULTILINE))

    async def started(self) -> float:
        """Wait until it logs that it watches, and return the time when that was observed."""
        while '"Started"' not in self._log.read_text():
            self._must_live(self.launched + _START_SECONDS)
            await asyncio.sleep(0.02)
        return time.time()

    async def settled(self, reconciles: int, seconds: float = 900.0) -> float:
        """Wait until it has reconciled this many agents and is idle, and return the time since which it is."""
        deadline = time.time() + seconds
        last, cpu, at = 0.0, self.cpu_seconds, time.time()
        quiet, since = 0, at
        while quiet < _QUIET_LOOKS:
            self._must_live(deadline)
            await asyncio.sleep(_LOOK_SECONDS)
            # Metrics cost the operator time too, to count its agents by condition: they are read only while it is idle.
            before, cpu = cpu, self.cpu_seconds
            started, at = at, time.time()
            done = last
            if cpu - before < _QUIET_SHARE * (at - started):
                done = await self.count("agent_operator_reconciles_total")
                cpu, at = self.cpu_seconds, time.time()
            if cpu - before < 2 * _QUIET_SHARE * (at - started) and done == last and done >= reconciles:
                quiet += 1
            else:
                quiet, since, last = 0, at, done
        return since

    async def stop(self) -> None:
        """Stop it, and wait until it has ended."""
        self._process.send_signal(signal.SIGTERM)
        deadline = time.time() + _STOP_SECONDS
        while self._process.poll() is None:
            if time.time() > deadline:
                raise TestbedError(f"The operator did not end within {_STOP_SECONDS:.0f} s.\n{self._tail()}")
            await asyncio.sleep(0.05)

    def end(self) -> None:
        """Kill it, whatever its state."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def _must_live(self, deadline: float) -> None:
        if self._process.poll() is not None:
            raise TestbedError(f"The operator ended with code {self._process.returncode}.\n{self._tail()}")
        if time.time() > deadline:
            raise TestbedError(f"The operator did not settle in time.\n{self._tail()}")

    def _tail(self) -> str:
        return "\n".join(self._log.read_text().splitlines()[-_LINES_OF_LOG:])


@asynccontextmanager
async def operator(kubeconfig: Path) -> AsyncIterator[Running]:
    """Launch the operator on all namespaces. It ends after the body, and always with this process."""
    with tempfile.TemporaryDirectory(prefix="portside-bench-") as folder:
        running = _launch(kubeconfig, Path(folder))
        try:
            yield running
        finally:
            running.end()


def _launch(kubeconfig: Path, folder: Path) -> Running:
    log = folder / "operator.log"
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*DIE_WITH_PARENT, COMMAND, "run", f"--health-port={port}"],
            env=os.environ | {"KUBECONFIG": str(kubeconfig), "HOME": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for the bench, which ends it in order
        )
    return Running(process, log, port)
