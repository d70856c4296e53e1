"""The measurements. Each returns numbers; the tables are made elsewhere."""

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from agent_operator.kube.resources import AGENT, DEPLOYMENT
from bench.operator import agents
from bench.operator.agents import NAMESPACE, name_of
from bench.operator.api import MERGE, USER_AGENT, Api
from bench.operator.plane import AuditLog, Plane, Write
from bench.operator.running import Running, operator
from testbed.errors import TestbedError

_EDIT_SECONDS = 30.0
_EDIT_PAUSE = 0.05


@dataclass(frozen=True)
class Rate:
    """So many agents written for in so many seconds, from the first write that came to the last that was done.

    `cpu` is the processor time of all that took part in it: API server, etcd, and who wrote.
    """

    agents: int
    writes: int
    seconds: float
    cpu: float
    writer_cpu: float
    launch_to_done: float = 0.0

    @property
    def agents_per_second(self) -> float:
        """Agents per second."""
        return self.agents / self.seconds

    @property
    def writes_per_second(self) -> float:
        """Writes per second."""
        return self.writes / self.seconds


def _span(writes: list[Write]) -> float:
    if not writes:
        raise TestbedError("Nothing was written.")
    return max(write.done for write in writes) - min(write.started for write in writes)


async def raw_limit(plane: Plane, api: Api, audit: AuditLog, count: int) -> Rate:
    """Measure a plain client that writes what the operator would, and delete what it created."""
    made = await agents.create(api, range(count))
    audit.read()
    cpu, own = plane.cpu_seconds, time.process_time()
    await agents.apply_as_operator(api, made)
    own = time.process_time() - own
    cpu = plane.cpu_seconds - cpu + own
    writes = [write for write in audit.read() if write.by == USER_AGENT]
    await agents.delete_all(api)
    audit.read()
    return Rate(count, len(writes), _span(writes), cpu, own)


async def created_before(plane: Plane, api: Api, audit: AuditLog, count: int) -> Rate:
    """Measure an operator that starts with existing agents, of which no object exists yet."""
    await agents.create(api, range(count))
    audit.read()
    async with operator(plane.kubeconfig) as running:
        await running.started()
        cpu, own = plane.cpu_seconds, running.cpu_seconds
        await running.settled(count)
        own = running.cpu_seconds - own
        cpu = plane.cpu_seconds - cpu + own
        writes = audit.by_operator()
        span = _span(writes)
        done = max(write.done for write in writes) - running.launched
        await running.stop()
    await agents.delete_all(api)
    return Rate(count, len(writes), span, cpu, own, done)


async def created_while(plane: Plane, running: Running, api: Api, audit: AuditLog, numbers: Sequence[int]) -> Rate:
    """Measure from the first creation, while agents are created as fast as possible and the operator runs."""
    audit.read()
    count, known = len(numbers), await running.count("agent_operator_reconciles_total")
    cpu, own, creating = plane.cpu_seconds, running.cpu_seconds, time.process_time()
    started = time.time()
    await agents.create(api, numbers)
    creating = time.process_time() - creating
    await running.settled(int(known) + count)
    own = running.cpu_seconds - own
    cpu = plane.cpu_seconds - cpu + own + creating
    writes = audit.by_operator()
    if not writes:
        raise TestbedError("The operator wrote nothing.")
    seconds = max(write.done for write in writes) - started
    return Rate(count, len(writes), seconds, cpu, own, seconds)


async def writes_at_rest(running: Running, audit: AuditLog, seconds: float) -> tuple[int, float]:
    """Return the operator's writes while nothing changes, and the share of a core that it used."""
    audit.read()
    cpu = running.cpu_seconds
    await asyncio.sleep(seconds)
    return len(audit.by_operator()), (running.cpu_seconds - cpu) / seconds


@dataclass(frozen=True)
class Start:
    """A start on a cluster with nothing to do, in seconds from the launch."""

    started: float
    settled: float
    writes: int
    cpu: float
    resident_mb: float


async def start(running: Running, audit: AuditLog, count: int) -> Start:
    """Wait until a launched operator is idle."""
    started = await running.started()
    settled = await running.settled(count)
    return Start(
        started - running.launched,
        settled - running.launched,
        len(audit.by_operator()),
        running.cpu_seconds,
        running.resident_mb,
    )


@dataclass
class Edits:
    """Seconds from the answer to an edit until the watch reported the change of its Deployment."""

    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.seconds)

    @property
    def p99(self) -> float:
        """The 99th percentile."""
        return statistics.quantiles(self.seconds, n=100, method="inclusive")[98]


async def edits(api: Api, count: int, among: int) -> Edits:
    """Change the prompt of one agent after another, spread over all, and wait each time for its Deployment."""
    found = Edits()
    changes: asyncio.Queue[tuple[str, int, float]] = asyncio.Queue()
    version = await api.version(DEPLOYMENT.path(NAMESPACE))

    async def listen() -> None:
        async for event in api.watch(DEPLOYMENT.path(NAMESPACE), version):
            metadata = event["object"]["metadata"]
            changes.put_nowait((metadata["name"], metadata["generation"], time.monotonic()))

    listening = asyncio.create_task(listen())
    try:
        for number in range(count):
            name = name_of(number * among // count)
            path = DEPLOYMENT.path(NAMESPACE, name)
            generation = (await api.call("GET", path))["metadata"]["generation"]
            change = {"spec": {"agent": {"systemPrompt": f"Be brief, for the {number + 1}th time."}}}
            await api.call("PATCH", AGENT.path(NAMESPACE, name), change, MERGE)
            answered = time.monotonic()
            async with asyncio.timeout(_EDIT_SECONDS):
                while True:
                    what, now, at = await changes.get()
                    if what == name and now > generation:
                        break
            found.seconds.append(max(at - answered, 0.0))
            await asyncio.sleep(_EDIT_PAUSE)
    except TimeoutError:
        raise TestbedError(f"An edit of {name} was not seen at its Deployment within {_EDIT_SECONDS:.0f} s.") from None
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    return found


async def cycle(running: Running, api: Api, count: int) -> None:
    """Create agents, wait until the operator has created all their objects, and delete everything."""
    known = await running.count("agent_operator_reconciles_total")
    await agents.create(api, range(count))
    await running.settled(int(known) + count)
    await agents.delete_all(api)
    await running.settled(0)
