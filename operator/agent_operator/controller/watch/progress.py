"""Progress of kopf's watches: when each last progressed, how often it restarted, and when it had to list again.

kopf's handlers see neither bookmarks nor reconnects; its HTTP session does (aiohttp: "Client Tracing").
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from types import SimpleNamespace

import aiohttp

from agent_operator.controller.metrics import Metrics
from agent_operator.kube.resources import Resource

Watched = tuple[str, str | None]
"""What a watch covers: a kind, and a namespace or, for None, all of them."""

# API servers send a bookmark each minute to clients that request them, as kopf does (KEP-956). A watch that delivers
# nothing for longer is dead, regardless of the state of its socket.
SILENCE_SECONDS = 70.0
# Multiples of the silence. After RENEWALS the API server ends a watch, and kopf restarts it, so that a healthy watch
# shows progress. After LIMIT a watch without progress makes the whole operator unhealthy.
RENEWALS = 4
LIMIT = 6


class Watches:
    """The progress of each watch. A watch that delivers nothing for `silence` seconds counts as dead."""

    def __init__(self, metrics: Metrics, silence: float = SILENCE_SECONDS) -> None:
        self.silence = silence
        self._metrics = metrics
        self._kinds: dict[str, str] = {}
        self._namespaces: tuple[str, ...] = ()
        self._progress: dict[Watched, float] = {}
        self._started: set[str] = set()
        self._listed: set[str] = set()
        metrics.watch_watches(self.silent)

    def expect(self, resources: Iterable[Resource], namespaces: Sequence[str] = ()) -> None:
        """Start to track watches of exactly these kinds: one per namespace or, without any, one for all."""
        self._kinds = {each.plural: each.kind for each in resources}
        self._namespaces = tuple(namespaces)
        now = time.monotonic()
        expected = [(kind, each) for kind in self._kinds.values() for each in self._namespaces or (None,)]
        self._progress = {watched: self._progress.get(watched, now) for watched in expected}
        for kind in self._kinds.values():
            self._metrics.watch_restarts.labels(kind)

    def progressed(self, kind: str, namespace: str) -> None:
        """Record progress of the watch that covers objects of this kind and namespace."""
        watched = (kind, namespace if self._namespaces else None)
        if watched in self._progress:  # otherwise a late event of a watch that ended because its kind was removed
            self._progress[watched] = time.monotonic()

    def silent(self) -> dict[str, list[float]]:
        """Return for how many seconds each watch made no progress, by kind."""
        now, found = time.monotonic(), defaultdict(list)
        for (kind, _), last in self._progress.items():
            found[kind].append(now - last)
        return found

    def fault(self) -> str | None:
        """Describe the watch that made no progress for too long; None if all progress."""
        if not self._progress:
            return None
        (kind, namespace), last = min(self._progress.items(), key=lambda each: each[1])
        silent = time.monotonic() - last
        where = "" if namespace is None else f" in {namespace}"
        too_long = silent > LIMIT * self.silence
        return f"the watch of {kind}{where} made no progress for {silent:.0f} s" if too_long else None

    def tracing(self, listed_again: Callable[[], None]) -> aiohttp.TraceConfig:
        """Return a trace configuration that reports a session's requests to this object.

        `listed_again` is called when watched objects are listed again: a watch could not resume (410 Gone), and its
        deletions in between are lost.
        """

        async def answered(
            _: aiohttp.ClientSession, __: SimpleNamespace, request: aiohttp.TraceRequestEndParams
        ) -> None:
            path = request.url.path
            kind = self._kinds.get(path.rpartition("/")[2])
            if kind is None or request.response.status != HTTPStatus.OK:
                return
            self.progressed(kind, _namespace(path))
            if request.url.query.get("watch") == "true":
                if path in self._started:
                    self._metrics.watch_restarts.labels(kind).inc()
                self._started.add(path)
            elif "continue" not in request.url.query:
                if path in self._listed:
                    listed_again()
                self._listed.add(path)

        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(answered)
        return trace


def _namespace(path: str) -> str:
    """Return the namespace in the path of an API request; empty for a request across all namespaces."""
    return path.partition("/namespaces/")[2].partition("/")[0]
