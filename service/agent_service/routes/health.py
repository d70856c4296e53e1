"""`/health`, `/health/live`, `/health/ready`."""

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from agent_service import __version__, memory
from agent_service.routes.parts import Parts, PartsDep

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

    status: str = Field(description="`up` or `down`.")
    latency_ms: float | None = Field(None, description="Milliseconds that finding out took, where something was asked.")
    detail: str


class Health(BaseModel):
    """Answer of `GET /health`."""

    status: str = Field(description="`healthy` or `unhealthy`.")
    version: str
    components: dict[str, Component]


@router.get("/health/live")
async def live() -> Alive:
    """Say that the process can answer."""
    return Alive(alive=True)


@router.get("/health/ready", responses={503: {"model": Ready}})
async def ready(parts: PartsDep, response: Response) -> Ready:
    """Say whether requests should come here. Asks nobody: an outage of the model API leaves every pod ready."""
    reason = _why_not_ready(parts)
    if reason is not None:
        response.status_code = _UNAVAILABLE
    return Ready(ready=reason is None, reason=reason)


@router.get("/health", responses={503: {"model": Health}})
async def health(parts: PartsDep, response: Response) -> Health:
    """Look at every component, for people and monitors. Not for probes: it asks the model API, at no cost in tokens."""
    components = {"model_api": await _model_api(parts), "memory": _memory()}
    healthy = all(component.status == "up" for component in components.values())
    if not healthy:
        response.status_code = _UNAVAILABLE
    return Health(status="healthy" if healthy else "unhealthy", version=__version__, components=components)


def _why_not_ready(parts: Parts) -> str | None:
    if parts.lifecycle.draining:
        return "draining"
    if not parts.lifecycle.started:
        return "starting"
    if parts.credentials is not None and parts.credentials.refused:
        return "credentials refused"
    return None


async def _model_api(parts: Parts) -> Component:
    result = await parts.model_check.result()
    return Component(
        status="up" if result.fault is None else "down",
        latency_ms=round(result.seconds * 1000, 3),
        detail=result.fault
        or f"The provider {parts.settings.model_provider} answers for model {parts.provider.model}.",
    )


def _memory() -> Component:
    now = memory.measure()
    limit = f"of {now.limit // 2**20} MiB" if now.limit else "with no limit set"
    return Component(status="up" if now.share < _MEMORY_SHARE else "down", detail=f"{now.used // 2**20} MiB {limit}")
