"""Asks the pods of agents, again and again, what they report: what is used of a budget, and whether they reach what
they need. Both stand in their metrics."""

import asyncio
import math
import random
import time
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, field
from http import HTTPStatus

import aiohttp
import structlog

from agent_operator.api.budget import Budget
from agent_operator.controller.status.budget import Used
from agent_operator.controller.status.dependencies import (
    COMPONENTS,
    SILENT,
    UP,
    Dependencies,
    Reading,
    Report,
    agreed,
    reading_in,
)
from agent_operator.controller.status.pod_problems import is_meant_to_run
from agent_operator.kube.cache import Cache
from agent_operator.kube.conditions import condition
from agent_operator.kube.resources import Key
from agent_operator.manifests.document import Document
from agent_operator.manifests.labels import selector
from agent_operator.manifests.names import CONFIG_CHECKSUM, METRICS_PATH, METRICS_PORT

log = structlog.get_logger(__name__)

# Between looks at an agent with a budget, and at one without. Each look costs the operator a millisecond or two: with
# thousands of agents that has to stay a small part of a core.
BUDGET_SECONDS = 30.0
LOOK_SECONDS = 60.0
# When a look found something else than before. A pod asks what is down every ten seconds.
CONFIRM_SECONDS = 15.0
# When an agent has no pod that could be asked: to find that out costs no request.
NO_POD_SECONDS = 15.0
# Pods that do not answer are asked less and less often: a look at them takes a thousand times as long.
MOST_SECONDS = 300.0
TICK_SECONDS = 1.0
# Of one pod, which answers in milliseconds. Pods that cannot be reached must hold up only those who ask them.
ANSWER_SECONDS = 2.0
# Many times what a pod has to report. What runs there is the user's, and may send anything, also for ever.
MOST_BYTES = 512 << 10
# Every pod reports what all of them used, and one that reaches all is enough; another, in case the first is just going
# or is the only one with a fault.
MOST_PODS = 2
AT_ONCE = 64
# Of one agent, before those that no pod has are forgotten. Not at once: pods may come that the cache has yet to get.
MOST_CHECKSUMS = 16

METRIC = "agent_budget_used_ratio"
# More is no share that anybody counted, and would not fit where it is written.
MOST_PERCENT = 10**7
# No compressed answer: a small one could become a large one.
HEADERS = {"Accept": "text/plain", "Accept-Encoding": "identity"}


@dataclass
class _Agent:
    """An agent, with the `checksums` of settings that have its budget: pods with others report shares of another
    budget. None until its budget is first changed: till then any pod is believed."""

    due: float
    budget: Budget | None = None
    checksums: set[str] | None = None
    used: Used | None = None
    dependencies: Dependencies = field(default_factory=Dependencies)
    is_asked: bool = False
    unanswered: int = 0

    def report(self) -> Report:
        return Report(self.used, self.dependencies.settled)


class Reports:
    """What pods reported last. `wake` is called with an agent of which something else is reported than before."""

    def __init__(self, cache: Cache, wake: Callable[[Key], None]) -> None:
        self._cache = cache
        self._wake = wake
        self._agents: dict[Key, _Agent] = {}

    def expect(self, key: Key, budget: Budget | None, checksum: str = "") -> Report:
        """Look after the agent from now on; return what is known of it.

        Args:
            key: whose.
            budget: which it has now.
            checksum: of its settings, as its pods are annotated with.
        """
        now = time.monotonic()
        agent = self._agents.get(key)
        if agent is None:
            # Spread over the period, as after a start all of them come at once.
            spread = random.uniform(0, LOOK_SECONDS)  # noqa: S311  spread, not secrecy
            agent = self._agents[key] = _Agent(due=now + spread)
        if budget is None:
            agent.budget, agent.checksums, agent.used = None, None, None
        elif agent.budget is None:
            agent.budget, agent.due = budget, now
        elif agent.budget != budget:
            agent.budget, agent.checksums, agent.used, agent.due = budget, set(), Used(None), now
        if agent.checksums is not None:
            # Those of before as well: when another setting is changed later, and its rollout sticks, their pods stay.
            agent.checksums.add(checksum)
            if len(agent.checksums) > MOST_CHECKSUMS:
                agent.checksums &= {checksum, *map(_settings_of, self._cache.pods(key))}
        return agent.report()

    def forget(self, key: Key) -> None:
        """The agent is gone."""
        self._agents.pop(key, None)

    async def collect(self) -> None:
        """Look at all of them again and again, until cancelled."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        places = asyncio.Semaphore(AT_ONCE)
        # No proxy and no cookies: pods are asked by their addresses. No connection is kept: there are too many pods.
        async with (
            aiohttp.ClientSession(
                timeout=timeout,
                headers=HEADERS,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
            ) as session,
            asyncio.TaskGroup() as looks,
        ):
            while True:
                now = time.monotonic()
                for key, agent in self._agents.items():
                    if agent.due <= now and not agent.is_asked:
                        agent.is_asked = True
                        looks.create_task(self._look(session, places, key, agent))
                await asyncio.sleep(TICK_SECONDS)

    async def _look(self, session: aiohttp.ClientSession, places: asyncio.Semaphore, key: Key, agent: _Agent) -> None:
        before, budget = agent.report(), agent.budget
        async with places:
            try:
                found = await _asked(
                    session, key, self._cache.pods(key), agent.checksums, needs_share=budget is not None
                )
            except Exception as error:
                # A fault of ours with one agent must not end the looking at all others.
                log.exception("Could not ask pods", namespace=key.namespace, name=key.name, error=repr(error))
                found = _Found()
        agent.is_asked = False
        # Meanwhile it may be gone, or another budget may have come.
        if self._agents.get(key) is not agent or agent.budget != budget:
            return
        agent.dependencies.take(found.dependencies)
        if budget is not None:
            agent.used = Used(found.percent)
        agent.unanswered = agent.unanswered + 1 if found.was_silent else 0
        agent.due = time.monotonic() + _pause(agent, found) * random.uniform(0.8, 1.2)  # noqa: S311  not secrecy
        if agent.report() != before:
            self._wake(key)


@dataclass
class _Found:
    """What a look at an agent's pods gave. `was_asked` is false when there was no pod to ask, `was_silent` true when
    none answered that should have."""

    percent: int | None = None
    dependencies: Reading = field(default_factory=dict)
    was_asked: bool = False
    was_silent: bool = False


def _pause(agent: _Agent, found: _Found) -> float:
    """The seconds until the next look."""
    if not found.was_asked:
        return NO_POD_SECONDS
    period = BUDGET_SECONDS if agent.budget is not None else LOOK_SECONDS
    if agent.unanswered > 1:
        return float(min(MOST_SECONDS, period * 2 ** min(agent.unanswered - 1, 10)))
    return min(period, CONFIRM_SECONDS) if agent.dependencies.is_pending else period


async def _asked(
    session: aiohttp.ClientSession, key: Key, pods: list[Document], checksums: Set[str] | None, *, needs_share: bool
) -> _Found:
    """Ask pods of an agent, those first that have one of the `checksums`, which alone are asked for the budget."""
    ready = serving(key, pods)
    trusted = serving(key, pods, checksums)
    # A pod may be unready because of what it cannot reach. One that has yet to start does not answer.
    addresses = sorted(ready, key=lambda address: address not in trusted) or _running(key, pods)
    found = _Found(was_asked=bool(addresses), was_silent=bool(ready))
    reading: Reading | None = None
    for address in addresses[:MOST_PODS]:
        metrics = await _ask(session, address)
        if metrics is None:
            continue
        found.was_silent = False
        if needs_share and found.percent is None and address in trusted:
            found.percent = percent_in(metrics)
        reading = reading_in(metrics) if reading is None else agreed(reading, reading_in(metrics))
        if (found.percent is not None or not needs_share) and all(kind == UP for kind in reading.values()):
            break
    found.dependencies = dict.fromkeys(COMPONENTS, SILENT) if found.was_silent else reading or {}
    return found


def serving(key: Key, pods: Iterable[Document], checksums: Set[str] | None = None) -> list[str]:
    """The addresses of the API's pods that are ready and not on their way out; with `checksums`, of those that have the
    settings of one of them."""
    return [
        pod["status"]["podIP"]
        for pod in _of_api(key, pods)
        if (checksums is None or _settings_of(pod) in checksums)
        and condition(pod["status"], "Ready").get("status") == "True"
    ]


def _running(key: Key, pods: Iterable[Document]) -> list[str]:
    return [pod["status"]["podIP"] for pod in _of_api(key, pods) if pod["status"].get("phase") == "Running"]


def _of_api(key: Key, pods: Iterable[Document]) -> list[Document]:
    """The API's pods that have an address, and are not on their way out."""
    labels = selector(key.name).items()
    return [
        pod
        for pod in pods
        if labels <= pod["metadata"].get("labels", {}).items() and is_meant_to_run(pod) and pod["status"].get("podIP")
    ]


def _settings_of(pod: Document) -> str:
    """The checksum of the settings that the pod has."""
    checksum: str = pod["metadata"].get("annotations", {}).get(CONFIG_CHECKSUM, "")
    return checksum


async def _ask(session: aiohttp.ClientSession, address: str) -> str | None:
    """The metrics of the pod at that address; None when it does not answer as it should."""
    host = f"[{address}]" if ":" in address else address
    try:
        # Nor is it to send us elsewhere.
        address = f"http://{host}:{METRICS_PORT}{METRICS_PATH}"
        async with session.get(address, allow_redirects=False) as answer:
            return (await _beginning(answer)).decode(errors="replace") if answer.status == HTTPStatus.OK else None
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return None


async def _beginning(answer: aiohttp.ClientResponse) -> bytes:
    read = bytearray()
    async for chunk in answer.content.iter_any():
        read += chunk
        if len(read) > MOST_BYTES:
            break
    return bytes(read)


def percent_in(metrics: str) -> int | None:
    """How much of the budget is used, in whole percent, by metrics in Prometheus' text format; None without it."""
    line = next((line for line in metrics.splitlines() if line.startswith(f"{METRIC} ")), None)
    try:
        percent = None if line is None else math.floor(float(line.removeprefix(METRIC)) * 100)
    except (ValueError, OverflowError):
        return None
    return percent if percent is not None and 0 <= percent <= MOST_PERCENT else None
