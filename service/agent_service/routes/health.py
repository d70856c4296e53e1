"""`/health`, `/health/live`, `/health/ready`."""

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from agent_service import __version__
from agent_service.components import Components
from agent_service.health import memory
from agent_service.health.checks import Finding
from agent_service.routes.dependencies import ComponentsDep

router = APIRouter(tags=["health"])

# Above this part of its memory limit the kernel is close to killing the container.
_MEMORY_SHARE = 0.9

_UNAVAILABLE = 503


class Alive(BaseModel):
    """Answer of `GET /health/live`."""

    alive: bool


class Ready(BaseModel):
    """Answer of `GET /health/ready`."""

    ready: bool
    reason: str | None = Field(description="Why not: `starting`, `draining` or `credentials refused`.")


class Component(BaseModel):
    """State of one part that the service depends on."""

    status: Literal["up", "down", "unknown"] = Field(
        description="`unknown` before it was looked at for the first time."
    )
    latency_ms: float | None = Field(None, description="Milliseconds that finding out took, where something was asked.")
    checked_seconds_ago: float = Field(0.0, description="How old this knowledge is, in seconds.")
    kind: str | None = Field(
        None,
        description="What is wrong, in a word for programs, such as `unreachable`, `timed_out` or "
        "`credentials_refused`; null while nothing is.",
    )
    detail: str = Field(
        description="What was found, in a sentence of ours. What others answered is in the agent's log alone."
    )


class Health(BaseModel):
    """Answer of `GET /health`."""

    status: Literal["healthy", "unhealthy"]
    version: str
    components: dict[str, Component]


@router.head("/health/live", include_in_schema=False)
@router.get("/health/live")
async def live() -> Alive:
    """Say that the process can answer."""
    return Alive(alive=True)


@router.head("/health/ready", include_in_schema=False)
@router.get("/health/ready", responses={503: {"model": Ready}})
async def ready(components: ComponentsDep, response: Response) -> Ready:
    """Say whether requests should come here. Asks nobody: an outage of the model API leaves every pod ready."""
    reason = _why_not_ready(components)
    if reason is not None:
        response.status_code = _UNAVAILABLE
    return Ready(ready=reason is None, reason=reason)


@router.head("/health", include_in_schema=False)
@router.get("/health", responses={503: {"model": Health}})
async def health(components: ComponentsDep, response: Response) -> Health:
    """Tell what is known of every component, looked at every few seconds. For people and monitors, not for probes."""
    found = {name: _component(check.finding()) for name, check in components.checks.items()}
    found["memory"] = _memory()
    healthy = all(component.status == "up" for component in found.values())
    if not healthy:
        response.status_code = _UNAVAILABLE
    return Health(status="healthy" if healthy else "unhealthy", version=__version__, components=found)


def _why_not_ready(components: Components) -> str | None:
    if components.lifecycle.draining:
        return "draining"
    if not components.lifecycle.started:
        return "starting"
    if components.credentials is not None and components.credentials.refused:
        return "credentials refused"
    return None


def _component(finding: Finding | None) -> Component:
    if finding is None:
        return Component(status="unknown", detail="It was not looked at yet.")
    return Component(
        status="up" if finding.up else "down",
        latency_ms=round(finding.seconds * 1000, 3),
        checked_seconds_ago=round(finding.age_seconds, 1),
        kind=finding.kind,
        detail=finding.detail,
    )


def _memory() -> Component:
    now = memory.measure()
    limit = f"of {now.limit // 2**20} MiB" if now.limit else "with no limit set"
    low = now.share >= _MEMORY_SHARE
    detail = f"{now.used // 2**20} MiB {limit}"
    return Component(status="down" if low else "up", kind="memory_low" if low else None, detail=detail)
