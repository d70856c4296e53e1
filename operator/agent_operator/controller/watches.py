"""How kopf's watches fare: when each last got on, how often it began anew, and when it had to list again.

kopf tells its handlers neither of bookmarks nor of reconnects; its HTTP session does (aiohttp: "Client Tracing").
"""

import time
from collections.abc import Callable, Iterable
from types import SimpleNamespace

import aiohttp

from agent_operator.controller.metrics import Metrics
from agent_operator.controller.resources import Resource

OK = 200

# API servers send a bookmark each minute to whoever asked for them, as kopf does (KEP-956): a watch that brings nothing
# for longer is dead, whatever its socket says.
SILENCE_SECONDS = 70.0
# In these many times the silence the API server ends a watch, and kopf begins it anew, so that a good one shows life;
# after the second, one that did not get on is a fault of the whole operator.
RENEWALS = 4
LIMIT = 6


class Watches:
    """What was seen of the watches of each kind. One without news for `silence` seconds counts as dead."""

    def __init__(self, metrics: Metrics, silence: float = SILENCE_SECONDS) -> None:
        self.silence = silence
        self._metrics = metrics
        self._kinds: dict[str, str] = {}
        self._progress: dict[str, float] = {}
        self._begun: set[str] = set()
        self._listed: set[str] = set()

    def expect(self, resources: Iterable[Resource]) -> None:
        """Watches of exactly these kinds begin now."""
        self._kinds = {each.plural: each.kind for each in resources}
        now = time.monotonic()
        self._progress = {kind: self._progress.get(kind, now) for kind in self._kinds.values()}
        for kind in self._progress:
            self._metrics.watch_restarts.labels(kind)

    def heard(self, kind: str) -> None:
        """The watch of the kind brought something."""
        self._progress[kind] = time.monotonic()

    def fault(self) -> str | None:
        """Which watch made no progress for too long, if any."""
        if not self._progress:
            return None
        kind, last = min(self._progress.items(), key=lambda each: each[1])
        silent = time.monotonic() - last
        return f"the watch of {kind} made no progress for {silent:.0f} s" if silent > LIMIT * self.silence else None

    def tracing(self, listed_again: Callable[[], None]) -> aiohttp.TraceConfig:
        """What has a session tell us of its requests. `listed_again` is called when what was watched is listed anew:

        a watch could not go on from where it was (410 Gone), and nobody tells what was deleted meanwhile.
        """

        async def answered(
            _: aiohttp.ClientSession, __: SimpleNamespace, request: aiohttp.TraceRequestEndParams
        ) -> None:
            kind = self._kinds.get(request.url.path.rpartition("/")[2])
            if kind is None or request.response.status != OK:
                return
            self.heard(kind)
            path = request.url.path
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
