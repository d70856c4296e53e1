"""Background checks of the dependencies of the service, so that no health request has to wait for them."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import structlog

from agent_service.agent.errors import ModelError
from agent_service.state.redis_errors import StateUnavailableError
from agent_service.telemetry.logs import where
from agent_service.telemetry.redact import for_log

_log = structlog.get_logger(__name__)

# Often enough for a monitor that polls every 30 seconds. The model API has its own limit for counting tokens, which all
# pods of an agent share: while it answers, it is checked less often.
CHECK_SECONDS = 10.0
QUIET_CHECK_SECONDS = 30.0

# A dependency without an answer by then is reported as down; it may be slow rather than down.
LIMIT_SECONDS = 5.0

# Pods that started together in a rollout must not send their checks together forever.
_JITTER = 0.1


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check: whether the component is up, a description, the duration, and the age of the result.

    `kind` is a word for programs, such as `unreachable` or `timed_out`; None while the component is up.
    """

    up: bool
    detail: str
    seconds: float
    age_seconds: float
    kind: str | None = None


class ComponentDownError(Exception):
    """A component is down. `kind` is a word for programs, and the message one that any client can see."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Check:
    """A check that runs periodically and stores its latest result.

    `ask` returns a description if the component is up; otherwise it raises a ModelError, a StateUnavailableError or a
    ComponentDownError, whose message any client can see. Its timeout is `limit_seconds`. It is called every
    `every_seconds`, or every `quiet_seconds` while the component is up.
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
        self._found: Finding | None = None
        self._at = 0.0

    def finding(self) -> Finding | None:
        """Return the latest result; None before the first one. A component with an overdue check is down."""
        if self._found is None:
            return None
        age = time.monotonic() - self._at
        found = replace(self._found, age_seconds=age)
        if age > 2 * (max(self._every, self._quiet) + self._limit):
            detail = f"It has not been checked for {age:.0f} seconds."
            return replace(found, up=False, detail=detail, kind="not_checked")
        return found

    async def run(self, name: str) -> None:
        """Run the check forever. Log each change of the result under `name`."""
        while True:
            before = self._found
            self._found, upstream = await self._answer(name)
            self._at = time.monotonic()
            if self._found.up and before is not None and not before.up:
                _log.info("Component was up again", component=name)
            elif not self._found.up and (before is None or before.up or before.kind != self._found.kind):
                more = {} if upstream is None else {"upstream": for_log(upstream)}
                found = self._found
                _log.warning("Component was down", component=name, kind=found.kind, reason=found.detail, **more)
            pause = self._quiet if self._found.up else self._every
            await asyncio.sleep(pause * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311  # no secret

    async def _answer(self, name: str) -> tuple[Finding, str | None]:
        """Return the result, and the message of the upstream for the log."""
        started = time.perf_counter()
        up, kind, upstream = False, None, None
        try:
            async with asyncio.timeout(self._limit):
                detail = await self._ask()
            up = True
        except TimeoutError:
            detail, kind = f"It did not answer within {self._limit:g} seconds.", "timed_out"
        except ModelError as error:
            detail, kind, upstream = str(error), error.kind, error.upstream
        except StateUnavailableError as error:
            detail, kind = error.detail, error.reason
        except ComponentDownError as error:
            detail, kind = str(error), error.kind
        except Exception as error:
            # A bug of the service must not end the checks.
            _log.error("Check failed unexpectedly", component=name, error=type(error).__name__, where=where(error))
            detail, kind = "The check failed; the log has the reason.", "internal"
        return Finding(up, detail, time.perf_counter() - started, 0.0, kind), upstream


@asynccontextmanager
async def running(checks: Mapping[str, Check]) -> AsyncIterator[None]:
    """Run the checks until the context ends. It starts without waiting for the first results."""
    tasks = [asyncio.create_task(check.run(name)) for name, check in checks.items()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
