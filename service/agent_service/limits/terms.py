"""The terms of a budget: its period, its limits and the prices. Pure."""

from dataclasses import dataclass, replace
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
        )

    def limited_to(self, tokens: int, cost: Decimal) -> Self:
        """Return the same terms with other limits."""
        return replace(self, tokens=tokens, cost=cost)

    @property
    def on(self) -> bool:
        """Whether there is any limit."""
        return bool(self.tokens or self.cost)
