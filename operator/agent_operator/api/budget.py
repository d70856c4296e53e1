"""How much an agent may use: tokens, and money according to a table of prices."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from agent_operator.api.base import Model
from agent_operator.api.rules import Rule

# Up to six decimals, as the service counts it. A string, because a YAML number would be rounded in transit.
Money = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}(\.[0-9]{1,6})?$", max_length=16)]


class Price(Model):
    """Prices of one million tokens of a model, all in one currency of your choice."""

    input: Money
    """Price of tokens sent to the model."""
    output: Money
    """Price of tokens received from the model."""
    cache_write: Money | None = None
    """Price of tokens sent and written to the model API's cache. Defaults to `input`."""
    cache_read: Money | None = None
    """Price of tokens sent and read from the model API's cache. Defaults to `input`."""


class BudgetShare(Model):
    """What one client, or all clients of one tenant, may use in the period of the budget."""

    rules = (
        Rule(
            cel="has(self.cost) ? !self.cost.matches('^[0.]*$') : has(self.tokens)",
            message="budget.perClient and perTenant need a limit above 0: set tokens or cost",
            holds=lambda share: share.tokens is not None if share.cost is None else share.cost.strip("0.") != "",
        ),
    )

    tokens: Annotated[int, Field(ge=1, le=10**15)] | None = None
    """Maximum number of tokens."""
    cost: Money | None = None
    """Maximum cost."""


class Budget(Model):
    """What the agent may use in a day or a month, counted in Redis across all pods."""

    rules = (
        Rule(
            cel="has(self.tokens) || has(self.cost) || has(self.perClient) || has(self.perTenant)",
            message="budget needs a limit: set budget.tokens, budget.cost, budget.perClient or budget.perTenant",
            holds=lambda budget: budget.limits_agent or (budget.per_client or budget.per_tenant) is not None,
        ),
        Rule(
            cel="!has(self.cost) || !self.cost.matches('^[0.]*$')",
            message="budget.cost must be more than 0: raise it, or remove it",
            holds=lambda budget: budget.cost is None or budget.cost.strip("0.") != "",
            field="cost",
        ),
    )

    period: Literal["day", "month"] = "month"
    """Calendar period in UTC: `day` or `month`."""
    tokens: Annotated[int, Field(ge=1, le=10**15)] | None = None
    """Maximum number of tokens, sent and received together. If unset, the number is unlimited."""
    cost: Money | None = None
    """Maximum cost by the prices of `agent.model`, such as "250.00". If unset, the cost is unlimited."""
    per_client: BudgetShare | None = None
    """Limits of each client with a key or a token."""
    per_tenant: BudgetShare | None = None
    """Limits of all clients of one tenant together."""
    prices: Annotated[dict[str, Price], Field(max_length=32)] | None = None
    """Prices by model ID."""
    action: Literal["warn", "stop"] = "stop"
    """What happens when the budget is used up. `stop` answers 429 until the period ends, and tasks wait until they
    fail at their deadline (TASK_DEADLINE_SECONDS, one hour unless set in extraEnv). `warn` continues to serve. Both
    are reported in the status, the metrics and the log."""

    @property
    def limits_agent(self) -> bool:
        """Whether the usage of the whole agent is limited."""
        return self.tokens is not None or self.cost is not None

    @property
    def has_cost(self) -> bool:
        """Whether any cost is limited, for which prices are needed."""
        shares = (self.per_client, self.per_tenant)
        return self.cost is not None or any(share is not None and share.cost is not None for share in shares)
