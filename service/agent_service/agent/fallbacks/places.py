"""The providers of an agent in the order in which they are asked, with the health of each.

What is known is that of this process. Replicas meet the same outages, and each finds out with a call or two.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog
from opentelemetry.trace import get_current_span

from agent_service.agent.claude.endpoint import AnyEndpoint
from agent_service.agent.fallbacks.circuit import Circuit
from agent_service.telemetry.fallback_metrics import FallbackMetrics

_log = structlog.get_logger(__name__)

# The cache of the model API keeps a prefix for five minutes after its last use (Claude docs, "Prompt caching").
STICKY_SECONDS = 300.0

# Conversations that are remembered; each takes about 300 bytes. Only those that a fallback answered are.
_MOST_CONVERSATIONS = 10_000


@dataclass(frozen=True, slots=True)
class Place:
    """A provider of the agent.

    `name` is the label of the metrics, `in_traces` the provider by the semantic conventions for GenAI, and `model` the
    model that answers there in place of the agent's.
    """

    name: str
    in_traces: str
    model: str
    endpoint: AnyEndpoint
    circuit: Circuit = field(default_factory=Circuit, compare=False)


class Places:
    """The providers of an agent, its own first."""

    def __init__(
        self, places: Sequence[Place], metrics: FallbackMetrics, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Take at least two places."""
        self.all = tuple(places)
        self._metrics = metrics
        self._now = now
        self._last: OrderedDict[str, tuple[Place, float]] = OrderedDict()
        metrics.prepare([(place.name, place.model) for place in places])

    def candidates(self, conversation: str | None) -> list[Place]:
        """Return the places to ask for a call, in order; at least one.

        The one that answered last in a conversation comes first while its cache lives. If all of them fail, the one
        that is due first is asked alone, so that an outage of all does not multiply the calls.
        """
        now = self._now()
        found = [place for place in self.all if place.circuit.allows(now)]
        if not found:
            return [min(self.all, key=lambda place: place.circuit.until)]
        last, until = self._last.get(conversation or "", (found[0], 0.0))
        if now < until and last in found:
            found.remove(last)
            found.insert(0, last)
        return found

    def remember(self, conversation: str | None, place: Place) -> None:
        """Note which place answered in a conversation with a prefix that is worth its cache."""
        if conversation is None:
            return
        self._last.pop(conversation, None)
        if place is self.all[0]:
            return
        self._last[conversation] = (place, self._now() + STICKY_SECONDS)
        if len(self._last) > _MOST_CONVERSATIONS:
            self._last.popitem(last=False)

    @contextmanager
    def asking(self, place: Place) -> Iterator[None]:
        """Enter this context for a call."""
        place.circuit.begin()
        try:
            yield
        finally:
            place.circuit.end()

    def answered(self, place: Place, model: str) -> None:
        """Note that the answer of a place, and of a model there, has started."""
        get_current_span().set_attributes({"gen_ai.provider.name": place.in_traces, "gen_ai.request.model": model})
        self._metrics.answers.labels(place.name, model).inc()
        if place.circuit.failing:
            _log.info("Provider of the model answered again", provider=place.name)
        place.circuit.succeeded()
        self._metrics.failing.labels(place.name).set(0)

    def failed(
        self,
        place: Place,
        reason: str,
        wait: float | None,
        following: Place | None,
        *,
        of_one_model: bool = False,
    ) -> None:
        """Note that a place has not answered.

        Args:
            place: the place.
            reason: why, as the label of the metrics.
            wait: seconds after which the provider asks to be called again.
            following: the place that is asked next; None if no other is left.
            of_one_model: whether the failure is about a model other than that of the place, which is no reason to skip
                the place.
        """
        skipped = not of_one_model and place.circuit.failed(reason, self._now(), wait)
        if skipped:
            self._metrics.failing.labels(place.name).set(1)
        if following is None:
            return
        self._metrics.fallbacks.labels(place.name, following.name, reason).inc()
        names = {"from": place.name, "to": following.name, "reason": reason}
        get_current_span().add_event("portside.fallback", {f"portside.fallback.{key}": names[key] for key in names})
        _log.warning("Provider of the model did not answer, asked the next", **names, skipped=skipped)

    def skips(self, place: Place) -> bool:
        """Return whether a place is skipped now."""
        return self._now() < place.circuit.until
