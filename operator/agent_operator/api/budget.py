"""How much an agent may use: tokens, and money by a table of prices."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from agent_operator.api.base import Model
from agent_operator.api.rules import Rule

# Of up to six decimals, as the service counts it. A text, because a number of YAML would be rounded on its way.
Money = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}(\.[0-9]{1,6})?$", max_length=16)]


class Price(Model):
    """What a million tokens of a model cost, all in one currency of your choice."""

    input: Money
    """Sent to the model."""
    output: Money
    """Received from the model."""
    cache_write: Money | None = None
    """Sent, and written to the model API's cache; as `input` when not set."""
    cache_read: Money | None = None
    """Sent, and read from the model API's cache; as `input` when not set."""


class Budget(Model):
    """What the whole agent may use in a day or a month, counted in Redis over all pods."""

    rules = (
        Rule(
            cel="has(self.tokens) || has(self.cost)",
            message="budget needs a bound: set budget.tokens or budget.cost",
            holds=lambda budget: budget.tokens is not None or budget.cost is not None,
        ),
        Rule(
            cel="!has(self.cost) || !self.cost.matches('^[0.]*$')",
            message="budget.cost must be more than 0: raise it, or remove it",
            holds=lambda budget: budget.cost is None or budget.cost.strip("0.") != "",
            field="cost",
        ),
    )

    period: Literal["day", "month"] = "month"
    """`day` or `month`, as the calendar has them in UTC."""
    tokens: Annotated[int, Field(ge=1, le=10**15)] | None = None
    """Most tokens, sent and received together; any number when not set."""
    cost: Money | None = None
    """Most money, by the prices of `agent.model`, such as "250.00"; any amount when not set."""
    prices: Annotated[dict[str, Price], Field(max_length=32)] | None = None
    """Prices by the model's id."""
    action: Literal["warn", "stop"] = "stop"
    """When it is used up: `stop` answers 429 until the period ends and lets tasks wait, which fail at their deadline
    (TASK_DEADLINE_SECONDS, an hour unless set in extraEnv); `warn` goes on. Either shows in the status, the metrics and
    the log."""
