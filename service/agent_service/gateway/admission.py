"""Whether a call may be made now, by the budget and the token limit of the agent."""

import asyncio
import math

from agent_service.agent.claude.retry_after import LONGEST_RETRY_AFTER_SECONDS, LONGEST_RETRY_WAIT_SECONDS
from agent_service.agent.provider import Waiting
from agent_service.gateway.forms import RefusedError
from agent_service.limits.limits import Limits
from agent_service.telemetry.metrics import Metrics

_RATE_LIMIT = "rate_limit_error"

# The official SDKs obey this header. Without it they would retry until the budget's next period.
_NO_RETRY = {"x-should-retry": "false"}


async def admit(limits: Limits, metrics: Metrics, waiting: Waiting) -> None:
    """Wait for the token limit as long as waiting is better than an error.

    Raises:
        RefusedError: when the budget is used up, or the wait would be too long.
    """
    wait = await limits.tokens_wait()
    if not wait:
        return
    loop = asyncio.get_running_loop()
    until = loop.time() + LONGEST_RETRY_WAIT_SECONDS
    with waiting():
        while wait:
            if limits.budget.stops and limits.budget.share(limits.budget.account()) >= 1:
                metrics.rate_limited.labels("budget").inc()
                message = "The agent's budget is used up; it may call the model again when the next period begins."
                raise RefusedError(429, _RATE_LIMIT, message, {**_retry_after(wait), **_NO_RETRY})
            if loop.time() + wait > until:
                metrics.rate_limited.labels("tokens").inc()
                message = "The agent's limit of tokens per minute is reached; try again later."
                raise RefusedError(429, _RATE_LIMIT, message, _retry_after(wait))
            await asyncio.sleep(wait)
            wait = await limits.tokens_wait()


def _retry_after(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(math.ceil(min(seconds, LONGEST_RETRY_AFTER_SECONDS)))}
