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


class Admission:
    """Admits calls. Calls that arrive while the limits are being asked share the answer."""

    def __init__(self, limits: Limits, metrics: Metrics, waiting: Waiting) -> None:
        """Take the limits, the metrics that count refusals, and the context of calls that wait."""
        self._limits = limits
        self._metrics = metrics
        self._waiting = waiting
        self._asking: asyncio.Task[float] | None = None

    async def admit(self) -> None:
        """Wait for the token limit as long as waiting is better than an error.

        Raises:
            RefusedError: when the budget is used up, or the wait would be too long.
        """
        if not (self._limits.tokens_per_minute or self._limits.budget.stops):
            return
        wait = await self._wait()
        if not wait:
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + LONGEST_RETRY_WAIT_SECONDS
        with self._waiting():
            while wait:
                self._refuse_if_too_long(wait, left=until - loop.time())
                await asyncio.sleep(wait)
                wait = await self._wait()

    async def _wait(self) -> float:
        if self._asking is None:
            self._asking = asyncio.create_task(self._limits.tokens_wait())
            self._asking.add_done_callback(self._answered)
        # Shielded, because the call that asks first may be cancelled before the others.
        return await asyncio.shield(self._asking)

    def _answered(self, _: asyncio.Task[float]) -> None:
        self._asking = None

    def _refuse_if_too_long(self, wait: float, *, left: float) -> None:
        budget = self._limits.budget
        if budget.stops and budget.share(budget.account()) >= 1:
            self._metrics.rate_limited.labels("budget").inc()
            message = "The agent's budget is used up; it may call the model again when the next period begins."
            raise RefusedError(429, _RATE_LIMIT, message, {**_retry_after(wait), **_NO_RETRY})
        if wait > left:
            self._metrics.rate_limited.labels("tokens").inc()
            message = "The agent's limit of tokens per minute is reached; try again later."
            raise RefusedError(429, _RATE_LIMIT, message, _retry_after(wait))


def _retry_after(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(math.ceil(min(seconds, LONGEST_RETRY_AFTER_SECONDS)))}
