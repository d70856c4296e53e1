"""Publish the state of the dependencies as metrics, from which the operator and alerts detect an outage.

Only the components that all others need are published; `/health` has the rest. The descriptions of findings are not in
the metrics. Workers publish nothing: they have a separate Service, so alerts would fire twice.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from agent_service.health.checks import Check
from agent_service.telemetry.metrics import Metrics

# The agent's own provider of an agent with fallbacks. While it is down and another answers, the agent works.
PRIMARY = "model_primary"

DEPENDENCIES = ("model_api", PRIMARY, "runtime", "redis")

# Several times per run of a check, so that scraped metrics are about as recent as `/health`.
PUBLISH_SECONDS = 2.0


@asynccontextmanager
async def publishing(checks: Mapping[str, Check], metrics: Metrics) -> AsyncIterator[None]:
    """Keep the metrics up to date until the context ends."""
    task = asyncio.create_task(_publish(checks, metrics))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _publish(checks: Mapping[str, Check], metrics: Metrics) -> None:
    published: dict[str, str | None] = {}
    while True:
        for name in DEPENDENCIES:
            if name not in checks:
                continue  # this agent does not depend on it
            finding = checks[name].finding()
            if finding is None:
                continue  # not checked yet: neither up nor down
            metrics.dependency_up.labels(name).set(finding.up)
            kind = None if finding.up else finding.kind or "error"
            before = published.get(name)
            if before is not None and before != kind:
                metrics.dependency_failing.labels(name, before).set(0)
            if kind is not None:
                metrics.dependency_failing.labels(name, kind).set(1)
            published[name] = kind
        await asyncio.sleep(PUBLISH_SECONDS)
