"""How kopf's watches fare: when each last got on, how often it began anew, and when it had to list again.

kopf tells its handlers neither of bookmarks nor of reconnects; its HTTP session does (aiohttp: "Client Tracing").
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
"""What one watch is of: a kind, and a namespace or, for None, all of them."""

# API servers send a bookmark each minute to whoever asked for them, as kopf does (KEP-956): a watch that brings nothing
# for longer is dead, whatever its socket says.
SILENCE_SECONDS = 70.0
# In these many times the silence the API server ends a watch, and kopf begins it anew, so that a good one shows life;
# after the second, one that did not get on is a fault of the whole operator.
RENEWALS = 4
LIMIT = 6


class Watches:
    """What was seen of each watch. One without news for `silence` seconds counts as dead."""

    def __init__(self, metrics: Metrics, silence: float = SILENCE_SECONDS) -> None:
        self.silence = silence
        self._metrics = metrics
        self._kinds: dict[str, str] = {}
        self._namespaces: tuple[str, ...] = ()
        self._progress: dict[Watched, float] = {}
        self._begun: set[str] = set()
        self._listed: set[str] = set()
        metrics.watch_watches(self.silent)

    def expect(self, resources: Iterable[Resource], namespaces: Sequence[str] = ()) -> None:
        """Watches of exactly these kinds begin now, in each of the namespaces or, with none, in all at once."""
        self._kinds = {each.plural: each.kind for each in resources}
        self._namespaces = tuple(namespaces)
        now = time.monotonic()
        expected = [(kind, each) for kind in self._kinds.values() for each in self._namespaces or (None,)]
        self._progress = {watched: self._progress.get(watched, now) for watched in expected}
        for kind in self._kinds.values():
            self._metrics.watch_restarts.labels(kind)

    def progressed(self, kind: str, namespace: str) -> None:
        """The watch that an object of this kind and namespace is in brought something."""
        watched = (kind, namespace if self._namespaces else None)
        if watched in self._progress:  # else it is the last word of a watch that ended, as its kind went
            self._progress[watched] = time.monotonic()

    def silent(self) -> dict[str, list[float]]:
        """For how many seconds the watches made no progress, by kind."""
        now, found = time.monotonic(), defaultdict(list)
        for (kind, _), last in self._progress.items():
            found[kind].append(now - last)
        return found

    def fault(self) -> str | None:
        """Which watch made no progress for too long, if any."""
        if not self._progress:
            return None
        (kind, namespace), last = min(self._progress.items(), key=lambda each: each[1])
        silent = time.monotonic() - last
        where = "" if namespace is None else f" in {namespace}"
        too_long = silent > LIMIT * self.silence
        return f"the watch of {kind}{where} made no progress for {silent:.0f} s" if too_long else None

    def tracing(self, listed_again: Callable[[], None]) -> aiohttp.TraceConfig:
        """What has a session tell us of its requests. `listed_again` is called when what was watched is listed anew:

        a watch could not go on from where it was (410 Gone), and nobody tells what was deleted meanwhile.
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
                if path in self._begun:
                    self._metrics.watch_restarts.labels(kind).inc()
                self._begun.add(path)
            elif "continue" not in request.url.query:
                if path in self._listed:
                    listed_again()
                self._listed.add(path)

        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(answered)
        return trace


def _namespace(path: str) -> str:
    """The namespace in the path of a request of the API; empty where it is for all of them."""
    return path.partition("/namespaces/")[2].partition("/")[0]
