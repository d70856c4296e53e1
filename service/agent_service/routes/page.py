"""`GET /`."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from agent_service import __version__
from agent_service.routes.parts import PartsDep

router = APIRouter(tags=["service"])


class About(BaseModel):
    """Answer of `GET /`."""

    service: str
    version: str
    environment: str
    provider: str
    model: str
    endpoints: list[str]
    docs: str | None = Field(description="Where the API documentation is; null in production, where it is off.")


@router.get("/")
async def about(parts: PartsDep) -> About:
    """Say what this service is, and where its endpoints are."""
    return About(
        service="portside-agent",
        version=__version__,
        environment=parts.settings.environment,
        provider=parts.settings.model_provider,
        model=parts.provider.model,
        endpoints=[
            "POST /chat",
            "POST /chat/stream",
            "GET /health",
            "GET /health/live",
            "GET /health/ready",
            "GET /metrics",
        ],
        docs=None if parts.settings.is_production else "/docs",
    )
