"""Reading of the logs of all containers of an agent, also of pods that appear later."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

from agent_operator.api.runtime import CONTAINER as RUNTIME
from agent_operator.kube.errors import ApiError, UnreachableError
from agent_operator.kube.resources import POD
from agent_operator.manifests.document import Document
from agent_operator.manifests.labels import INSTANCE, NAME, PRODUCT
from agent_operator.manifests.names import CONTAINER
from agent_operator.tools.cluster import Access, Target, access
from agent_operator.tools.errors import ToolError
from agent_operator.tools.pod_logs.lines import Line, Source, concerns, lines
from agent_operator.tools.pod_logs.merge import Feed, Merge

# How often new pods and restarted containers are looked for.
POLL_SECONDS = 2.0
# Each container is one connection to the API server, and one from there to a kubelet.
MAX_STREAMS = 200


@dataclass(frozen=True)
class Selection:
    """Which lines to read: of which containers, how far back, and of which turns.

    `seconds` is the maximum age of a line, `tail` the number of last lines of each container; None means all.
    """

    containers: tuple[str, ...] = (CONTAINER, RUNTIME)
    follow: bool = False
    seconds: int | None = None
    tail: int | None = None
    ids: frozenset[str] = frozenset()


async def read_logs(target: Target, agent: str, selection: Selection) -> AsyncIterator[Line]:
    """Yield the selected lines of the agent's pods, ordered by time. Raises ToolError."""
    async with access(target, connections=0) as cluster:
        reading = Reading(cluster, agent, selection)
        try:
            async for line in reading.lines():
                if concerns(line, selection.ids):
                    yield line
        finally:
            await reading.stop()


@dataclass
class _Open:
    """A container's log that is or was being read: its feed, and the time of its last line."""

    feed: Feed
    last: int = 0


class Reading:
    """The logs of one agent's pods while they are read. Call `stop` afterwards."""

    def __init__(self, cluster: Access, agent: str, selection: Selection) -> None:
        self._cluster = cluster
        self._agent = agent
        self._selection = selection
        self._merge = Merge(following=selection.follow)
        # By pod, container and instance of the container.
        self._opened: dict[tuple[str, str, str], _Open] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def lines(self) -> AsyncIterator[Line]:
        """Yield the lines of all containers. Raises ToolError if none has started, ApiError and UnreachableError."""
        await self._open_new()
        if not self._opened and not self._selection.follow:
            raise ToolError(
                f"Agent {self._agent} has no started containers {', '.join(self._selection.containers)} in namespace "
                f"{self._cluster.namespace}: run `kubectl agent doctor {self._agent}`, or wait with --follow."
            )
        if self._selection.follow:
            self._start(self._poll())
        async for line in self._merge:
            yield line

    async def stop(self) -> None:
        """Close all logs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _poll(self) -> None:
        """Look for new containers until the end. A poll that fails is repeated: the API server may be restarting."""
        try:
            while True:
                await asyncio.sleep(POLL_SECONDS)
                with suppress(ApiError, UnreachableError):
                    await self._open_new(tail=False)
        except Exception as error:
            self._merge.fail(error)

    async def _open_new(self, *, tail: bool = True) -> None:
        """Start to read the logs of containers that have started since; `tail` limits them to their last lines."""
        pods = await self._cluster.list(
            POD, self._cluster.namespace, labelSelector=f"{INSTANCE}={self._agent},{NAME}={PRODUCT}"
        )
        there = [(pod, *each) for pod in pods for each in _started(pod, self._selection.containers)]
        keys = {(pod["metadata"]["name"], container, instance) for pod, container, instance, _ in there}
        self._opened = {key: each for key, each in self._opened.items() if key in keys or not each.feed.ended}
        for pod, container, instance, running in there:
            key = (pod["metadata"]["name"], container, instance)
            before = self._opened.get(key)
            # A log that ended while its container runs was cut off.
            if before is None or (before.feed.ended and running and self._selection.follow):
                self._open(key, before.last if before else 0, tail=tail)

    def _open(self, key: tuple[str, str, str], last: int, *, tail: bool) -> None:
        if sum(not each.feed.ended for each in self._opened.values()) >= MAX_STREAMS:
            raise ToolError(f"The agent has more than {MAX_STREAMS} containers: choose one of each pod with -c.")
        pod, container, _ = key
        opened = _Open(self._merge.open(Source(pod, container)), last)
        self._opened[key] = opened
        self._start(self._read(opened, tail=tail))

    async def _read(self, opened: _Open, *, tail: bool) -> None:
        """Read one log into its feed."""
        feed, after = opened.feed, opened.last
        path = POD.path(self._cluster.namespace, feed.source.pod, "log")
        try:
            async with self._cluster.stream(path, self._query(feed.source.container, after, tail=tail)) as chunks:
                async for line in lines(feed.source, chunks):
                    # The API server compares whole seconds.
                    if line.time > after or not after:
                        await feed.put(line)
                        opened.last = max(opened.last, line.time)
            feed.end()
        except (ApiError, UnreachableError) as error:
            feed.end(None if self._passes(error) else error)
        except Exception as error:
            feed.end(error)

    def _passes(self, error: ApiError | UnreachableError) -> bool:
        """Return whether the other logs are still of use: the pod is gone, or its node does not respond."""
        if isinstance(error, UnreachableError):
            return self._selection.follow
        gone = error.code in (HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST)
        return gone or error.code >= HTTPStatus.INTERNAL_SERVER_ERROR

    def _query(self, container: str, after: int, *, tail: bool) -> dict[str, str]:
        query = {"container": container, "timestamps": "true"}
        query |= {"follow": "true"} if self._selection.follow else {}
        if after:
            return query | {"sinceTime": datetime.fromtimestamp(after // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
        query |= {"sinceSeconds": str(self._selection.seconds)} if self._selection.seconds is not None else {}
        return query | ({"tailLines": str(self._selection.tail)} if tail and self._selection.tail is not None else {})


def _started(pod: Document, containers: tuple[str, ...]) -> Iterator[tuple[str, str, bool]]:
    """Yield name, instance and whether it runs of each of these containers that has started at least once."""
    status = pod.get("status") or {}
    for each in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        state = each.get("state") or {}
        if each["name"] not in containers:
            continue
        if "running" in state or "terminated" in state or (each.get("lastState") or {}).get("terminated"):
            yield each["name"], each.get("containerID") or "", "running" in state
