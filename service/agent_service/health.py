"""What the service depends on, looked at in the background, so that nobody who asks about it has to wait."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from agent_service.agent.errors import ModelError
from agent_service.logs import where
from agent_service.redact import for_log
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

    `kind` is a word for programs, such as `unreachable` or `timed_out`; None while all is well.
    """

    up: bool
    kind: str | None
    detail: str
    seconds: float
    age_seconds: float


class Check:
    """Asks one question again and again, and knows the latest answer.

    `ask` gives words when all is well, and raises a ModelError or StateUnavailableError when not, whose words are shown
    to anyone; it has `limit_seconds` for that. It is asked every `every_seconds`, or every `quiet_seconds` while all is
    well.
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
        self._found: _Answer | None = None
        self._at = 0.0
        self._upstream = ""

    def finding(self) -> Finding | None:
        """Give what is known; None before the first answer. What should have been looked at long ago is down."""
        if self._found is None:
            return None
        kind, detail, seconds = self._found
        age = time.monotonic() - self._at
        if age > 2 * (max(self._every, self._quiet) + self._limit):
            kind, detail = "stale", f"It could not be looked at for {age:.0f} seconds."
        return Finding(kind is None, kind, detail, seconds, age)

    async def run(self, name: str) -> None:
        """Ask for ever. A change for the better or worse is logged under `name`."""
        while True:
            before = self._found
            self._found = found = await self._answer(name)
            self._at = time.monotonic()
            was_down = before is not None and before.kind is not None
            if found.kind is None and was_down:
                _log.info("Component was up again", component=name)
            elif found.kind is not None and not was_down:
                more = {"upstream": for_log(self._upstream)} if self._upstream else {}
                _log.warning("Component was down", component=name, kind=found.kind, reason=found.detail, **more)
            pause = self._quiet if found.kind is None else self._every
            await asyncio.sleep(pause * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311  # no secret

    async def _answer(self, name: str) -> "_Answer":
        begun = time.perf_counter()
        kind: str | None = None
        self._upstream = ""
        try:
            async with asyncio.timeout(self._limit):
                detail = await self._ask()
        except TimeoutError:
            kind, detail = "timed_out", f"There was no answer within {self._limit:g} seconds."
        except ModelError as error:
            kind, detail, self._upstream = error.outcome, str(error), error.upstream
        except StateUnavailableError as error:
            kind, detail = error.kind, str(error)
        except Exception as error:
            # A fault of ours must not end the looking.
            _log.error("Check failed unexpectedly", component=name, error=type(error).__name__, where=where(error))
            kind, detail = "internal", "It could not be looked at; the log says why."
        return _Answer(kind, detail, time.perf_counter() - begun)


class _Answer(NamedTuple):
    """What was found: the kind of problem, None if there is none; words for anyone; the seconds that it took."""

    kind: str | None
    detail: str
    seconds: float


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
