"""From the change of an AgentClass to its effect: at admission, and in the status of the agents that exist."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from agent_operator.api.agent import API_VERSION
from agent_operator.api.agent_class import CLASS_KIND
from agent_operator.classes.choice import REFUSED
from agent_operator.kube.conditions import condition
from agent_operator.kube.resources import AGENT
from bench.operator import agents
from bench.operator.agents import NAMESPACE
from bench.operator.api import MERGE, Api, Document, each
from bench.operator.plane import Plane
from bench.operator.running import Running
from testbed import paths
from testbed.errors import TestbedError

_CLASS = "bench"
_CLASSES = f"/apis/{API_VERSION}/agentclasses"
_CHART = str(paths.REPOSITORY / "helm" / "agent-operator")
_REPLICAS = 2
_WIDE, _NARROW = 5, 1
_SECONDS = 300.0


@dataclass
class Delays:
    """Seconds from the API server's response to a change of the class, one entry for each change.

    `admission` is until a new agent is refused or accepted accordingly. `first` and `last` are until the first and the
    last of the agents has the change in its status.
    """

    admission: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)


async def measure(plane: Plane, running: Running, api: Api, *, count: int, changes: int) -> Delays:
    """Narrow and widen a bound in turn, with this many agents of the class."""
    delays = Delays()
    body = {"apiVersion": API_VERSION, "kind": CLASS_KIND, "metadata": {"name": _CLASS}, "spec": _bound(_WIDE)}
    await api.call("POST", _CLASSES, body)
    async with _policy(plane):
        await each(range(count), lambda number: api.call("POST", AGENT.path(NAMESPACE), _agent(number)))
        await running.settled(count)
        for change in range(changes):
            await _change(api, delays, count, _WIDE if change % 2 else _NARROW)
    return delays


@asynccontextmanager
async def _policy(plane: Plane) -> AsyncIterator[None]:
    """Have the admission policy for the duration of the body."""
    values = {
        "crds": {"install": False},
        "watchNamespaces": [NAMESPACE],
        "replicaCount": 0,
        "classes": {"admission": True},
    }
    install = ["install", _CLASS, _CHART, "-n", NAMESPACE, "-f", "-"]
    await asyncio.to_thread(plane.cluster.helm, *install, stdin=json.dumps(values))
    try:
        yield
    finally:
        await asyncio.to_thread(plane.cluster.helm, "uninstall", _CLASS, "-n", NAMESPACE)


async def _change(api: Api, delays: Delays, count: int, most: int) -> None:
    narrow = most == _NARROW
    version = await api.version(AGENT.path(NAMESPACE))
    await api.call("PATCH", f"{_CLASSES}/{_CLASS}", {"spec": _bound(most)}, MERGE)
    changed = time.perf_counter()
    try:
        async with asyncio.timeout(_SECONDS):
            admitted, seen = await asyncio.gather(
                _admission(api, refused=narrow), _statuses(api, version, count, refused=narrow)
            )
    except TimeoutError:
        raise TestbedError(f"A changed class had no effect on all agents within {_SECONDS:.0f} s.") from None
    delays.admission.append(admitted - changed)
    delays.first.append(seen[0] - changed)
    delays.last.append(seen[-1] - changed)


async def _admission(api: Api, *, refused: bool) -> float:
    """Return the time at which a new agent was refused or not, as expected."""
    while True:
        try:
            await api.call("POST", f"{AGENT.path(NAMESPACE)}?dryRun=All", _agent(0, "new"))
            found = False
        except TestbedError as error:
            if f"{CLASS_KIND} {_CLASS} refuses" not in str(error):
                raise
            found = True
        if found == refused:
            return time.perf_counter()


async def _statuses(api: Api, version: str, count: int, *, refused: bool) -> Sequence[float]:
    """Return the times at which each of the agents had its status, in order."""
    seen: dict[str, float] = {}
    async for event in api.watch(AGENT.path(NAMESPACE), version):
        document = event["object"]
        reason = condition(document.get("status", {}), "Ready").get("reason")
        if (reason == REFUSED) == refused:
            seen.setdefault(document["metadata"]["name"], time.perf_counter())
        if len(seen) == count:
            break
    return list(seen.values())


def _bound(most: int) -> Document:
    return {"bounds": {"replicas": {"max": most}}}


def _agent(number: int, name: str | None = None) -> Document:
    document = agents.agent(number)
    if name is not None:
        document["metadata"]["name"] = name
    document["spec"] |= {"className": _CLASS, "replicas": _REPLICAS, "autoscaling": {"enabled": False}}
    return document
