"""Polls the metrics of agents' pods: the used share of a budget, outages, and turns that wait for approvals."""

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
from agent_operator.controller.status.approvals import waiting_in
from agent_operator.controller.status.budget import Used
from agent_operator.controller.status.dependencies import SILENT_READING, Report, reading_in
from agent_operator.controller.status.pod_problems import is_meant_to_run
from agent_operator.controller.status.settling import UP, Reading, Settling, agreed
from agent_operator.controller.status.tool_servers import servers_in
from agent_operator.kube.cache import Cache
from agent_operator.kube.conditions import condition
from agent_operator.kube.resources import Key
from agent_operator.manifests.document import Document
from agent_operator.manifests.labels import selector
from agent_operator.manifests.names import CONFIG_CHECKSUM, METRICS_PATH, METRICS_PORT

log = structlog.get_logger(__name__)

# The poll interval of an agent with a budget, and of one without. Each poll costs the operator one or two milliseconds:
# with thousands of agents that has to stay a small part of a core.
BUDGET_SECONDS = 30.0
POLL_SECONDS = 60.0
# The interval while a poll found something different from before. A pod checks what is down every ten seconds.
CONFIRM_SECONDS = 15.0
# The interval while an agent has no pod to poll: finding that out costs no request.
NO_POD_SECONDS = 15.0
# The longest interval. Pods that do not answer are polled less and less often: such a poll takes a thousand times as
# long.
MOST_SECONDS = 300.0
TICK_SECONDS = 1.0
# The time limit for one pod, which normally answers in milliseconds. Unreachable pods must not delay other polls.
ANSWER_SECONDS = 2.0
# Many times the size of a pod's report. The pod runs the user's code, which may send anything, even without end.
MOST_BYTES = 512 << 10
# Every pod reports the use of all of them, and one pod that reaches everything is enough. A second one is polled in
# case the first is just terminating or is the only faulty one.
MOST_PODS = 2
AT_ONCE = 64
# Checksums kept per agent before those that no pod has are dropped. Not at once: the cache may yet receive such pods.
MOST_CHECKSUMS = 16

METRIC = "agent_budget_used_ratio"
# A higher value is not a plausible share, and would not fit its status field.
MOST_PERCENT = 10**7
# No compression: a small response could expand to a large one.
HEADERS = {"Accept": "text/plain", "Accept-Encoding": "identity"}


@dataclass
class _Agent:
    """The state of an agent.

    `checksums` are those of the settings that have its budget: pods with other settings report shares of another
    budget. It is None until the budget is first changed: until then any pod is trusted.
    """

    due: float
    budget: Budget | None = None
    checksums: set[str] | None = None
    used: Used | None = None
    dependencies: Settling = field(default_factory=Settling)
    tool_servers: Settling = field(default_factory=Settling)
    approvals: int | None = None
    is_polled: bool = False
    unanswered: int = 0

    def report(self) -> Report:
        return Report(self.used, self.dependencies.settled, self.tool_servers.settled, self.approvals)


class Reports:
    """The last reports of pods. `wake` is called with the key of an agent whose report has changed."""

    def __init__(self, cache: Cache, wake: Callable[[Key], None]) -> None:
        self._cache = cache
        self._wake = wake
        self._agents: dict[Key, _Agent] = {}

    def expect(self, key: Key, budget: Budget | None, checksum: str = "") -> Report:
        """Poll the agent from now on, and return its last report.

        Args:
            key: The agent's key.
            budget: Its current budget, or None.
            checksum: The checksum of its settings, as annotated on its pods.
        """
        now = time.monotonic()
        agent = self._agents.get(key)
        if agent is None:
            # Spread over the interval, as after startup all agents arrive at once.
            spread = random.uniform(0, POLL_SECONDS)  # noqa: S311  spread, not secrecy
            agent = self._agents[key] = _Agent(due=now + spread)
        if budget is None:
            agent.budget, agent.checksums, agent.used = None, None, None
        elif agent.budget is None:
            agent.budget, agent.due = budget, now
        elif agent.budget != budget:
            agent.budget, agent.checksums, agent.used, agent.due = budget, set(), Used(None), now
        if agent.checksums is not None:
            # Earlier checksums are kept: if another setting changes later and its rollout is stuck, their pods remain.
            agent.checksums.add(checksum)
            if len(agent.checksums) > MOST_CHECKSUMS:
                agent.checksums &= {checksum, *map(_settings_of, self._cache.pods(key))}
        return agent.report()

    def forget(self, key: Key) -> None:
        """Forget an agent that is gone."""
        self._agents.pop(key, None)

    async def collect(self) -> None:
        """Poll the pods of all agents until cancelled."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        slots = asyncio.Semaphore(AT_ONCE)
        # No proxy and no cookies: pods are polled by their addresses. Connections are not reused: there are too many
        # pods.
        async with (
            aiohttp.ClientSession(
                timeout=timeout,
                headers=HEADERS,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
            ) as session,
            asyncio.TaskGroup() as polls,
        ):
            while True:
                now = time.monotonic()
                for key, agent in self._agents.items():
                    if agent.due <= now and not agent.is_polled:
                        agent.is_polled = True
                        polls.create_task(self._poll(session, slots, key, agent))
                await asyncio.sleep(TICK_SECONDS)

    async def _poll(self, session: aiohttp.ClientSession, slots: asyncio.Semaphore, key: Key, agent: _Agent) -> None:
        before, budget = agent.report(), agent.budget
        async with slots:
            try:
                found = await _poll_pods(
                    session, key, self._cache.pods(key), agent.checksums, needs_share=budget is not None
                )
            except Exception as error:
                # A bug that affects one agent must not stop the polling of all other agents.
                log.exception("Could not poll pods", namespace=key.namespace, name=key.name, error=repr(error))
                found = _Found()
        agent.is_polled = False
        # The agent may be gone by now, or its budget may have changed.
        if self._agents.get(key) is not agent or agent.budget != budget:
            return
        agent.dependencies.take(found.dependencies)
        # Most agents have no servers of tools, and never report any.
        if found.tool_servers or (agent.tool_servers.settled is not None and not found.was_silent):
            agent.tool_servers.take(found.tool_servers)
        if found.approvals is not None:
            agent.approvals = found.approvals
        if budget is not None:
            agent.used = Used(found.percent)
        agent.unanswered = agent.unanswered + 1 if found.was_silent else 0
        agent.due = time.monotonic() + _pause(agent, found) * random.uniform(0.8, 1.2)  # noqa: S311  not secrecy
        if agent.report() != before:
            self._wake(key)


@dataclass
class _Found:
    """The result of polling an agent's pods.

    `was_polled` is false when there was no pod to poll. `was_silent` is true when ready pods were polled and none
    answered.
    """

    percent: int | None = None
    dependencies: Reading = field(default_factory=dict)
    tool_servers: Reading = field(default_factory=dict)
    approvals: int | None = None
    was_polled: bool = False
    was_silent: bool = False


def _pause(agent: _Agent, found: _Found) -> float:
    """Return the seconds until the next poll."""
    if not found.was_polled:
        return NO_POD_SECONDS
    period = BUDGET_SECONDS if agent.budget is not None else POLL_SECONDS
    if agent.unanswered > 1:
        return float(min(MOST_SECONDS, period * 2 ** min(agent.unanswered - 1, 10)))
    is_pending = agent.dependencies.is_pending or agent.tool_servers.is_pending
    return min(period, CONFIRM_SECONDS) if is_pending else period


async def _poll_pods(
    session: aiohttp.ClientSession, key: Key, pods: list[Document], checksums: Set[str] | None, *, needs_share: bool
) -> _Found:
    """Poll pods of an agent, those with one of the `checksums` first; only these count for the budget."""
    ready = serving(key, pods)
    trusted = serving(key, pods, checksums)
    # A pod may be unready because it cannot reach a dependency. A pod that has yet to start does not answer.
    addresses = sorted(ready, key=lambda address: address not in trusted) or _running(key, pods)
    found = _Found(was_polled=bool(addresses), was_silent=bool(ready))
    reading: Reading | None = None
    servers: Reading | None = None
    for address in addresses[:MOST_PODS]:
        metrics = await _scrape(session, address)
        if metrics is None:
            continue
        found.was_silent = False
        if needs_share and found.percent is None and address in trusted:
            found.percent = percent_in(metrics)
        if found.approvals is None:
            found.approvals = waiting_in(metrics)
        reading = reading_in(metrics) if reading is None else agreed(reading, reading_in(metrics))
        servers = servers_in(metrics) if servers is None else agreed(servers, servers_in(metrics))
        is_up = all(kind == UP for kind in (*reading.values(), *servers.values()))
        if is_up and (found.percent is not None or not needs_share):
            break
    found.dependencies = SILENT_READING if found.was_silent else reading or {}
    found.tool_servers = servers or {}
    return found


def serving(key: Key, pods: Iterable[Document], checksums: Set[str] | None = None) -> list[str]:
    """Return the addresses of the API's pods that are ready and not terminating.

    With `checksums`, only pods whose settings have one of them count.
    """
    return [
        pod["status"]["podIP"]
        for pod in _of_api(key, pods)
        if (checksums is None or _settings_of(pod) in checksums)
        and condition(pod["status"], "Ready").get("status") == "True"
    ]


def _running(key: Key, pods: Iterable[Document]) -> list[str]:
    return [pod["status"]["podIP"] for pod in _of_api(key, pods) if pod["status"].get("phase") == "Running"]


def _of_api(key: Key, pods: Iterable[Document]) -> list[Document]:
    """Return the API's pods that have an address and are not terminating."""
    labels = selector(key.name).items()
    return [
        pod
        for pod in pods
        if labels <= pod["metadata"].get("labels", {}).items() and is_meant_to_run(pod) and pod["status"].get("podIP")
    ]


def _settings_of(pod: Document) -> str:
    """Return the checksum of the pod's settings."""
    checksum: str = pod["metadata"].get("annotations", {}).get(CONFIG_CHECKSUM, "")
    return checksum


async def _scrape(session: aiohttp.ClientSession, address: str) -> str | None:
    """Return the metrics of the pod at this address; None unless it answers as expected."""
    host = f"[{address}]" if ":" in address else address
    try:
        # A pod must not redirect the operator to another address.
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
    """Return the used share of the budget in whole percent, from metrics in Prometheus' text format; None if absent."""
    line = next((line for line in metrics.splitlines() if line.startswith(f"{METRIC} ")), None)
    try:
        percent = None if line is None else math.floor(float(line.removeprefix(METRIC)) * 100)
    except (ValueError, OverflowError):
        return None
    return percent if percent is not None and 0 <= percent <= MOST_PERCENT else None
