"""What the routes work with, made once by the factory and handed to them by FastAPI."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from agent_service.agent.claude.credentials import Credentials
from agent_service.agent.provider import Provider
from agent_service.auth import Clients
from agent_service.chat.dialogue import Dialogue
from agent_service.config.settings import Settings
from agent_service.health.checks import Check
from agent_service.lifecycle import Lifecycle
from agent_service.limits.limits import Limits
from agent_service.state.redis import Redis
from agent_service.tasks.queue import Tasks
from agent_service.tasks.worker import Worker
from agent_service.telemetry.metrics import Metrics
from agent_service.telemetry.tracing import Tracing

# Where clients show no keys, whoever knows a conversation's id may go on with it.
ANYONE = "anyone"


@dataclass(frozen=True, slots=True)
class Parts:
    """The working parts of one app. `credentials` is None where no key is needed."""

    settings: Settings
    lifecycle: Lifecycle
    metrics: Metrics
    provider: Provider
    credentials: Credentials | None
    redis: Redis
    clients: Clients
    limits: Limits
    dialogue: Dialogue
    tasks: Tasks
    worker: Worker
    checks: Mapping[str, Check]
    tracing: Tracing

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Close them at the end of the context. What works with them ends before that, or would open them again."""
        try:
            yield
        finally:
            await self.provider.close()
            await self.limits.close()
            await self.redis.close()
            await self.tracing.close()


async def _parts(request: Request) -> Parts:
    return cast("Parts", request.app.state.parts)


def owner(request: Request) -> str:
    """Give whom the conversations and tasks of a request belong to: its client key, or `anyone` without keys."""
    client = request.scope.get("portside.client")
    return client.id if client is not None and client.key else ANYONE


PartsDep = Annotated[Parts, Depends(_parts)]
