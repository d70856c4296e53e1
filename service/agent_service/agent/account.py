"""The accounts of turns: what a turn is counted as, and charged for."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from agent_service.agent.errors import OUTCOMES, TimedOutError
from agent_service.agent.messages import CHARACTERS_PER_TOKEN, Prompt, Usage
from agent_service.telemetry.exposition import exemplar
from agent_service.telemetry.metrics import Metrics

# Outcomes of turns that the model works on, or has worked on.
_SENT = frozenset({"ok", "cancelled", TimedOutError.outcome})

_ALL_OUTCOMES = ("ok", "cancelled", *OUTCOMES)


class Account(Protocol):
    """Counts every turn of an agent, and has the words for who answers."""

    failed: str
    """Message of the log line for a failed turn."""
    labels: Mapping[str, str]
    """Fields of that log line."""
    sender: str
    """Who sends the pieces of an answer, as the subject of a sentence."""
    answerer: str
    """Who finishes an answer, as the subject of a sentence."""

    def count(self, outcome: str, prompt: Prompt, usage: Usage, seconds: float) -> None:
        """Count a turn with this outcome, which took so many seconds. Complete `usage` where it is unknown."""
        ...


class ModelAccount:
    """Turns with the model: each is charged for its tokens, which are estimated where the model API sends no count."""

    failed = "Turn with the model failed"
    sender = "The model API"
    answerer = "The model"

    def __init__(
        self,
        metrics: Metrics,
        *,
        models: Sequence[str],
        charge: Callable[[Usage, str | None], None],
        counted: Callable[[str | None], None],
    ) -> None:
        """Set up the account.

        Args:
            metrics: the metrics.
            models: the agent's model, and those of its fallbacks.
            charge: called with the usage of each turn, whatever its outcome, and its client.
            counted: called with the client of each turn.
        """
        model = models[0]
        self.labels: Mapping[str, str] = {"model": model}
        self._metrics = metrics
        self._model = model
        self._charge = charge
        self._counted = counted
        # Created up front: Prometheus sees no increase in a series that first appears with a value.
        for each in models:
            for outcome in _ALL_OUTCOMES:
                metrics.model_requests.labels(each, outcome)

    def count(self, outcome: str, prompt: Prompt, usage: Usage, seconds: float) -> None:
        """Count and charge a turn."""
        if not usage.output_known:
            # The model API counts at the end. An answer that was cut short is paid for, but only an estimate of it is
            # possible. Gateways may omit the counts.
            usage.output_tokens = max(usage.output_tokens, math.ceil(usage.characters / CHARACTERS_PER_TOKEN))
        if ((outcome in _SENT and usage.sent) or usage.characters) and not usage.input_tokens:
            usage.uncached_tokens = math.ceil(prompt.characters / CHARACTERS_PER_TOKEN)
        self._charge(usage, prompt.client)
        self._counted(prompt.client)
        model = usage.model or self._model
        self._metrics.model_requests.labels(model, outcome).inc()
        self._metrics.model_duration.labels(model).observe(seconds, exemplar())
        self._metrics.tokens.labels(model, "input").inc(usage.input_tokens)
        self._metrics.tokens.labels(model, "output").inc(usage.output_tokens)


class RuntimeAccount:
    """Turns by the runtime. The gateway charges and counts the calls of the model that the runtime makes."""

    failed = "Turn with the runtime failed"
    sender = "The agent's runtime"
    answerer = "The agent's runtime"

    def __init__(self, metrics: Metrics, *, protocol: str, counted: Callable[[str | None], None]) -> None:
        """Set up the account for the runtime's protocol. `counted` is called with the client of each turn."""
        self.labels: Mapping[str, str] = {"protocol": protocol}
        self._requests = {outcome: metrics.runtime_requests.labels(protocol, outcome) for outcome in _ALL_OUTCOMES}
        self._duration = metrics.runtime_duration.labels(protocol)
        self._counted = counted

    def count(self, outcome: str, prompt: Prompt, usage: Usage, seconds: float) -> None:
        """Count a turn. Its tokens are charged already."""
        self._counted(prompt.client)
        self._requests[outcome].inc()
        self._duration.observe(seconds, exemplar())
