"""Whether the model API could answer, found out at most every other second however often it is asked."""

import asyncio
import time
from dataclasses import dataclass

from agent_service.agent.errors import ModelError, TimedOutError
from agent_service.agent.provider import Provider

# A page of monitors that all refresh must not turn into a load on the model API.
_KEEP_SECONDS = 2.0

# `/health` is for people and monitors; they are better told "no answer" than kept waiting.
_LIMIT_SECONDS = 6.0


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What was found. `fault` is None when all is well; `seconds` is how long finding out took."""

    fault: str | None
    seconds: float


class ModelCheck:
    """Asks the provider, one question at a time, and keeps the answer for a moment."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._lock = asyncio.Lock()
        self._last: CheckResult | None = None
        self._last_at = 0.0

    async def result(self) -> CheckResult:
        """Give what is known now, or find it out."""
        async with self._lock:
            if self._last is None or time.monotonic() - self._last_at > _KEEP_SECONDS:
                self._last = await self._ask()
                self._last_at = time.monotonic()
            return self._last

    async def _ask(self) -> CheckResult:
        begun = time.perf_counter()
        fault = None
        try:
            async with asyncio.timeout(_LIMIT_SECONDS):
                await self._provider.check()
        except TimeoutError:
            fault = str(TimedOutError(f"The model API did not answer within {_LIMIT_SECONDS:g} seconds."))
        except ModelError as error:
            fault = str(error)
        return CheckResult(fault, time.perf_counter() - begun)
