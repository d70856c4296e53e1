"""Whether a call may be made now, by the budget and the token limit of the agent, and those of the turn's client."""

import asyncio
import math
from collections.abc import Awaitable, Callable

from agent_service.agent.claude.retry_after import LONGEST_RETRY_AFTER_SECONDS, LONGEST_RETRY_WAIT_SECONDS
from agent_service.agent.provider import Waiting
from agent_service.gateway.forms import RefusedError
from agent_service.limits.limits import Limits, Verdict
from agent_service.limits.shares import CLIENT_BUDGET, TENANT_BUDGET
from agent_service.telemetry.metrics import Metrics

_RATE_LIMIT = "rate_limit_error"

# The official SDKs obey this header. Without it they would retry until the budget's next period.
_NO_RETRY = {"x-should-retry": "false"}

# Why the client of a turn may use no more. Its runtime learns no numbers of the agent's configuration.
_SHARES = {
    CLIENT_BUDGET: "its budget is used up",
    TENANT_BUDGET: "the budget of its tenant is used up",
    "client_tokens": "its limit of tokens per minute is reached",
    "tenant_tokens": "its tenant's limit of tokens per minute is reached",
}


class Admission:
    """Admits calls. Calls that arrive while the limits are being asked share the answer."""

    def __init__(self, limits: Limits, metrics: Metrics, waiting: Waiting) -> None:
        """Take the limits, the metrics that count refusals, and the context of calls that wait."""
        self._limits = limits
        self._metrics = metrics
        self._waiting = waiting
        self._asking: asyncio.Task[float] | None = None

    async def admit(self, client: str | None) -> None:
        """Wait for the token limits as long as waiting is better than an error.

        Args:
            client: the client of the call's turn; None if the turn is unknown: only the agent's limits apply then.

        Raises:
            RefusedError: when a budget is used up, or the wait would be too long.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + LONGEST_RETRY_WAIT_SECONDS
        if self._limits.tokens_per_minute or self._limits.budget.stops:
            await self._admit(self._wait, self._refuse_if_too_long, until)
        if client is not None and self._limits.share_limits:
            await self._admit_share(client, until)

    async def _admit(
        self, ask: Callable[[], Awaitable[float]], refuse_if: Callable[[float, float], None], until: float
    ) -> None:
        loop = asyncio.get_running_loop()
        wait = await ask()
        if not wait:
            return
        with self._waiting():
            while wait:
                refuse_if(wait, until - loop.time())
                await asyncio.sleep(wait)
                wait = await ask()

    async def _admit_share(self, client: str, until: float) -> None:
        verdict: Verdict | None = None

        async def ask() -> float:
            nonlocal verdict
            verdict = await self._limits.admit_share(client)
            return verdict.wait / 1000

        def refuse_if(wait: float, left: float) -> None:
            if verdict is None or verdict.refused is None:
                return
            of_budget = verdict.refused in {CLIENT_BUDGET, TENANT_BUDGET}
            if of_budget or wait > left:
                self._metrics.rate_limited.labels(verdict.refused).inc()
                message = f"The client of this turn may use no more tokens now: {_SHARES[verdict.refused]}."
                raise RefusedError(429, _RATE_LIMIT, message, _retry_after(wait) | (_NO_RETRY if of_budget else {}))

        await self._admit(ask, refuse_if, until)

    async def _wait(self) -> float:
        if self._asking is None:
            self._asking = asyncio.create_task(self._limits.tokens_wait())
            self._asking.add_done_callback(self._answered)
        # Shielded, because the call that asks first may be cancelled before the others.
        return await asyncio.shield(self._asking)

    def _answered(self, _: asyncio.Task[float]) -> None:
        self._asking = None

    def _refuse_if_too_long(self, wait: float, left: float) -> None:
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
