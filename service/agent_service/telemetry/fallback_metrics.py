"""The Prometheus metrics of an agent with fallbacks. The configuration bounds the names of providers."""

from collections.abc import Sequence
from itertools import permutations

from prometheus_client import CollectorRegistry, Counter, Gauge

# Why a provider does not answer.
FALLBACK_REASONS = (
    *("rate_limited", "overloaded", "failed", "unreachable", "timed_out", "credentials_refused"),
    "not_offered",
)


class FallbackMetrics:
    """The metrics by provider."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.answers = Counter(
            "agent_model_provider_answers",
            "Answers of the model that began, by provider and model. Only with fallbacks.",
            ["provider", "model"],
            registry=registry,
        )
        self.fallbacks = Counter(
            "agent_model_fallbacks",
            "Calls of the model that one provider did not answer and that were then made to the next, by reason.",
            ["from", "to", "reason"],
            registry=registry,
        )
        self.failing = Gauge(
            "agent_model_provider_failing",
            "Whether a provider is skipped, or was and has not answered a call since (1). Only with fallbacks.",
            ["provider"],
            multiprocess_mode="livemax",
            registry=registry,
        )

    def prepare(self, providers: Sequence[tuple[str, str]]) -> None:
        """Create the series of these providers and their models.

        Prometheus sees no increase in a series that first appears with a value.
        """
        for provider, model in providers:
            self.failing.labels(provider)
            self.answers.labels(provider, model)
        for (before, _), (after, _) in permutations(providers, 2):
            for reason in FALLBACK_REASONS:
                self.fallbacks.labels(before, after, reason)
