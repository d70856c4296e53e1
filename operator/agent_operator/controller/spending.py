"""Asks the pods of agents with a budget, again and again, how much of it is used."""

import asyncio
import math
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass

import aiohttp

from agent_operator.api.budget import Budget
from agent_operator.controller.budget import Used
from agent_operator.controller.cache import Cache
from agent_operator.controller.conditions import condition
from agent_operator.controller.pods import is_meant_to_run
from agent_operator.controller.resources import Key
from agent_operator.manifests.form import Document
from agent_operator.manifests.labels import selector
from agent_operator.manifests.names import CONFIG_CHECKSUM, METRICS_PATH, METRICS_PORT

LOOK_SECONDS = 30.0
# Of one pod, which answers in milliseconds. Pods that cannot be reached must hold up nobody but those who ask them.
ANSWER_SECONDS = 2.0
# Many times what a pod has to tell. What runs there is the user's, and may say anything.
MOST_BYTES = 1 << 20
# Every pod tells what all of them used, so one is enough; another, in case the first is just going.
MOST_PODS = 2
AT_ONCE = 32
# Of one agent, before those that no pod has are forgotten. Not at once: pods may come that were not heard of yet.
MOST_CHECKSUMS = 16

METRIC = "agent_budget_used_ratio"
OK = 200
# More is no share that anybody counted, and would not fit where it is written.
MOST_PERCENT = 10**7


@dataclass
class _Agent:
    """An agent, with the `checksums` of settings that have its budget: pods with others tell shares of another budget.
    None until its budget is first changed: till then any pod is believed."""

    budget: Budget
    checksums: set[str] | None
    used: Used | None


class Spending:
    """What was used, as last told. `wake` is called with an agent of which something else is told than before."""

    def __init__(self, cache: Cache, wake: Callable[[Key], None]) -> None:
        self._cache = cache
        self._wake = wake
        self._agents: dict[Key, _Agent] = {}

    def expect(self, key: Key, budget: Budget | None, checksum: str = "") -> Used | None:
        """Look after the agent if it has a budget; give what is known of it, None before the first look.

        Args:
            key: whose.
            budget: which.
            checksum: of its settings, as its pods are annotated with.
        """
        if budget is None:
            self._agents.pop(key, None)
            return None
        agent = self._agents.get(key)
        if agent is None:
            agent = self._agents[key] = _Agent(budget, checksums=None, used=None)
        elif agent.budget != budget:
            agent = self._agents[key] = _Agent(budget, checksums=set(), used=Used(None))
        if agent.checksums is not None:
            # Those of before as well: when another setting is changed later, and its rollout sticks, their pods stay.
            agent.checksums.add(checksum)
            if len(agent.checksums) > MOST_CHECKSUMS:
                agent.checksums &= {checksum, *map(_settings_of, self._cache.pods(key))}
        return agent.used

    async def look_on(self) -> None:
        """Look at all of them again and again, until cancelled."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        places = asyncio.Semaphore(AT_ONCE)
        # No proxy and no cookies: pods are asked by their addresses.
        async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
            while True:
                await asyncio.gather(*(self._look(session, places, key) for key in list(self._agents)))
                await asyncio.sleep(LOOK_SECONDS)

    async def _look(self, session: aiohttp.ClientSession, places: asyncio.Semaphore, key: Key) -> None:
        agent = self._agents.get(key)
        if agent is None:
            return
        async with places:
            used = Used(None)
            for address in serving(key, self._cache.pods(key), agent.checksums)[:MOST_PODS]:
                used = Used(await _ask(session, address))
                if used.percent is not None:
                    break
        # Meanwhile its budget may have been changed, or taken away.
        if self._agents.get(key) is agent and agent.used != used:
            agent.used = used
            self._wake(key)


def serving(key: Key, pods: Iterable[Document], checksums: Set[str] | None = None) -> list[str]:
    """The addresses of the API's pods that are ready and not on their way out; with `checksums`, of those that have the
    settings of one of them."""
    labels = selector(key.name).items()
    return [
        pod["status"]["podIP"]
        for pod in pods
        if labels <= pod["metadata"].get("labels", {}).items()
        and is_meant_to_run(pod)
        and (checksums is None or _settings_of(pod) in checksums)
        and condition(pod["status"], "Ready").get("status") == "True"
        and pod["status"].get("podIP")
    ]


def _settings_of(pod: Document) -> str:
    """The checksum of the settings that the pod has."""
    checksum: str = pod["metadata"].get("annotations", {}).get(CONFIG_CHECKSUM, "")
    return checksum


async def _ask(session: aiohttp.ClientSession, address: str) -> int | None:
    host = f"[{address}]" if ":" in address else address
    try:
        # Nor is it to send us elsewhere.
        address = f"http://{host}:{METRICS_PORT}{METRICS_PATH}"
        async with session.get(address, allow_redirects=False) as answer:
            return percent_in((await _beginning(answer)).decode(errors="replace")) if answer.status == OK else None
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
    """How much of the budget is used, in whole percent, by metrics in Prometheus' text format; None if they say not."""
    line = next((line for line in metrics.splitlines() if line.startswith(f"{METRIC} ")), None)
    try:
        percent = None if line is None else math.floor(float(line.removeprefix(METRIC)) * 100)
    except (ValueError, OverflowError):
        return None
    return percent if percent is not None and 0 <= percent <= MOST_PERCENT else None
