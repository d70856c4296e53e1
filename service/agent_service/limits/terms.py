"""The terms of a budget: its period, its limits and the prices. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Literal, Self

from agent_service.agent.messages import Usage
from agent_service.config.settings import Settings

_TOKENS_OF_A_PRICE = 10**6


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of a million tokens: of the prompt, of the answer, and of a prompt written to or read from the cache."""

    input: Decimal = Decimal(0)
    output: Decimal = Decimal(0)
    cache_write: Decimal = Decimal(0)
    cache_read: Decimal = Decimal(0)

    def of(self, usage: Usage) -> Decimal:
        """Return the price of a turn."""
        return (
            usage.uncached_tokens * self.input
            + usage.output_tokens * self.output
            + usage.cache_write_tokens * self.cache_write
            + usage.cache_read_tokens * self.cache_read
        ) / _TOKENS_OF_A_PRICE


@dataclass(frozen=True, slots=True)
class Terms:
    """The budget of a `period`: tokens and cost (0: no limit), and whether the agent `stops` when it is used up."""

    period: Literal["day", "month"]
    tokens: int
    cost: Decimal
    stops: bool
    prices: Prices
    # By provider, where they differ.
    of_fallbacks: Mapping[str, Prices] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the budget of the settings."""
        written, read = settings.price_cache_write, settings.price_cache_read
        prices = Prices(
            settings.price_input,
            settings.price_output,
            cache_write=settings.price_input if written is None else written,
            cache_read=settings.price_input if read is None else read,
        )
        return cls(
            settings.budget_period,
            settings.budget_tokens,
            settings.budget_cost,
            stops=settings.budget_action == "stop",
            prices=prices,
            of_fallbacks=_of_fallbacks(settings),
        )

    def limited_to(self, tokens: int, cost: Decimal) -> Self:
        """Return the same terms with other limits."""
        return replace(self, tokens=tokens, cost=cost)

    def prices_of(self, usage: Usage) -> Prices:
        """Return the prices of the provider that the usage is of."""
        return self.of_fallbacks.get(usage.provider or "", self.prices)

    @property
    def on(self) -> bool:
        """Whether there is any limit."""
        return bool(self.tokens or self.cost)


def _of_fallbacks(settings: Settings) -> dict[str, Prices]:
    """Return the prices of the fallbacks that have some, by the names of their providers."""
    found = {}
    for fallback in settings.fallbacks:
        price = fallback.prices
        if price is not None:
            written = price.input if price.cache_write is None else price.cache_write
            read = price.input if price.cache_read is None else price.cache_read
            found[fallback.name] = Prices(price.input, price.output, cache_write=written, cache_read=read)
    return found
