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

# Above this share of its memory limit, the kernel is close to killing the container.
_MEMORY_SHARE = 0.9

_UNAVAILABLE = 503


class Alive(BaseModel):
    """Answer of `GET /health/live`."""

    alive: bool


class Ready(BaseModel):
    """Answer of `GET /health/ready`."""

    ready: bool
    reason: str | None = Field(description="Why it is not ready: `starting`, `draining` or `credentials refused`.")


class Component(BaseModel):
    """State of one part that the service depends on."""

    status: Literal["up", "down", "unknown"] = Field(
        description="State found by the last check; `unknown` before the first check."
    )
    latency_ms: float | None = Field(None, description="Milliseconds that the check took, if it sent a request.")
    checked_seconds_ago: float = Field(0.0, description="Age of this result in seconds.")
    kind: str | None = Field(
        None,
        description="Kind of the problem, in one word for programs, such as `unreachable`, `timed_out` or "
        "`credentials_refused`. Null while there is no problem.",
    )
    detail: str = Field(
        description="Result of the check, as a sentence. Answers of other services are only in the agent's log."
    )


class Health(BaseModel):
    """Answer of `GET /health`."""

    status: Literal["healthy", "unhealthy"]
    version: str
    components: dict[str, Component]


@router.head("/health/live", include_in_schema=False)
@router.get("/health/live")
async def live() -> Alive:
    """Report that the process can answer."""
    return Alive(alive=True)


@router.head("/health/ready", include_in_schema=False)
@router.get("/health/ready", responses={503: {"model": Ready}})
async def ready(components: ComponentsDep, response: Response) -> Ready:
    """Report whether this instance should receive requests.

    The check calls no other service, so an outage of the model API leaves every pod ready.
    """
    reason = _why_not_ready(components)
    if reason is not None:
        response.status_code = _UNAVAILABLE
    return Ready(ready=reason is None, reason=reason)


@router.head("/health", include_in_schema=False)
@router.get("/health", responses={503: {"model": Health}})
async def health(components: ComponentsDep, response: Response) -> Health:
    """Report the state of every component, which is checked every few seconds.

    This endpoint is for people and monitors, not for probes.
    """
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
        return Component(status="unknown", detail="It has not been checked yet.")
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
