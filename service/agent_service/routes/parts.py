"""What the routes work with, made once by the factory and handed to them by FastAPI."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from agent_service.agent.check import ModelCheck
from agent_service.agent.credentials import Credentials
from agent_service.agent.provider import Provider
from agent_service.agent.turn import Agent
from agent_service.lifecycle import Lifecycle
from agent_service.metrics import Metrics
from agent_service.settings import Settings


@dataclass(frozen=True, slots=True)
class Parts:
    """The working parts of one app. `credentials` is None where no key is needed."""

    settings: Settings
    lifecycle: Lifecycle
    metrics: Metrics
    provider: Provider
    credentials: Credentials | None
    agent: Agent
    model_check: ModelCheck


async def _parts(request: Request) -> Parts:
    return cast("Parts", request.app.state.parts)


PartsDep = Annotated[Parts, Depends(_parts)]
