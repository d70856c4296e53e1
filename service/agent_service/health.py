"""What the service depends on, looked at in the background, so that nobody who asks about it has to wait."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from agent_service.agent.errors import ModelError
from agent_service.logs import where
from agent_service.state.redis import StateUnavailableError

_log = structlog.get_logger(__name__)

# Often enough for a monitor that looks every half minute. The model API has a limit of its own for counting tokens,
# which all pods of an agent share: while it answers it is asked less often.
CHECK_SECONDS = 10.0
QUIET_CHECK_SECONDS = 30.0

# What has not answered by then is reported as down; it may still be slow rather than away.
LIMIT_SECONDS = 5.0

# Pods that started together, with a rollout, must not ask together for ever.
_JITTER = 0.1


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found: whether all is well, words about it, the seconds that it took, and how long ago that was.

    `kind` is one word for what is wrong, for programs.
    """

    up: bool
    detail: str
    seconds: float
    age_seconds: float
    kind: str | None = None


class Check:
    """Asks one question again and again, and knows the latest answer.

    `ask` gives words when all is well, and raises a ModelError or StateUnavailableError, whose words are shown, when
    not; it has `limit_seconds` for that. It is asked every `every_seconds`, or every `quiet_seconds` while all is well.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[str]],
        *,
        every_seconds: float,
        quiet_seconds: float | None = None,
        limit_seconds: float = LIMIT_SECONDS,
    ) -> None:
        self._ask = ask
        self._limit = limit_seconds
        self._every = every_seconds
        self._quiet = every_seconds if quiet_seconds is None else quiet_seconds
        self._found: tuple[bool, str, float, str | None] | None = None
        self._at = 0.0

    def finding(self) -> Finding | None:
        """Give what is known; None before the first answer. What should have been looked at long ago is down."""
        if self._found is None:
            return None
        up, detail, seconds, kind = self._found
        age = time.monotonic() - self._at
        if age > 2 * (max(self._every, self._quiet) + self._limit):
            up, detail, kind = False, f"It could not be looked at for {age:.0f} seconds.", "not_checked"
        return Finding(up, detail, seconds, age, kind)

    async def run(self, name: str) -> None:
        """Ask for ever. A change for the better or worse is logged under `name`."""
        while True:
            before = self._found
            self._found = up, detail, *_ = await self._answer(name)
            self._at = time.monotonic()
            if up and before is not None and not before[0]:
                _log.info("Component was up again", component=name)
            elif not up and (before is None or before[0]):
                _log.warning("Component was down", component=name, reason=detail)
            pause = self._quiet if up else self._every
            await asyncio.sleep(pause * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311  # no secret

    async def _answer(self, name: str) -> tuple[bool, str, float, str | None]:
        begun = time.perf_counter()
        up, kind = False, None
        try:
            async with asyncio.timeout(self._limit):
                detail = await self._ask()
            up = True
        except TimeoutError:
            detail, kind = f"There was no answer within {self._limit:g} seconds.", "timeout"
        except ModelError as error:
            detail, kind = str(error), error.outcome
        except StateUnavailableError as error:
            detail, kind = str(error), "unreachable"
        except Exception as error:
            # A fault of ours must not end the looking.
            _log.error("Check failed unexpectedly", component=name, error=type(error).__name__, where=where(error))
            detail, kind = "It could not be looked at; the log says why.", "error"
        return up, detail, time.perf_counter() - begun, kind


@asynccontextmanager
async def running(checks: Mapping[str, Check]) -> AsyncIterator[None]:
    """Run the checks for as long as the context lasts. The first answers come by themselves; nobody waits for them."""
    tasks = [asyncio.create_task(check.run(name)) for name, check in checks.items()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
