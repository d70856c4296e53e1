"""`GET /`: JSON about the service, or the chat page for a browser. `GET /page/<file>`: the files of the page."""

from importlib import resources
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel, Field

from agent_service import __version__
from agent_service.config.settings import Settings
from agent_service.routes.dependencies import ComponentsDep
from agent_service.routes.files import File

router = APIRouter(tags=["service"])

_FOLDER = resources.files("agent_service") / "page"

_INDEX = "index.html"
_FILES = {entry.name: File(entry) for entry in _FOLDER.iterdir() if entry.is_file()}


class About(BaseModel):
    """Answer of `GET /`."""

    service: str
    version: str
    environment: str
    provider: str
    model: str
    endpoints: list[str]
    docs: str | None = Field(description="Path of the API documentation. Null in production, where it is off.")


_HTML: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "JSON about the service; the chat page when `Accept` prefers `text/html` and the page is on.",
        "content": {"text/html": {"schema": {"type": "string"}}},
    }
}


@router.head("/", response_model=About, include_in_schema=False)
@router.get("/", response_model=About, responses=_HTML)
async def about(
    request: Request,
    response: Response,
    components: ComponentsDep,
) -> About | Response:
    """Describe this service and list its endpoints. A browser gets the chat page."""
    if has_page(components.settings):
        # An absent header expresses no preference, like `*/*` (RFC 9110, 12.5.1).
        if prefers_html(request.headers.get("Accept", "*/*")):
            return _FILES[_INDEX].answer(request, Vary="Accept")
        response.headers["Vary"] = "Accept"
    response.headers["Cache-Control"] = "no-store"
    return About(
        service="portside-agent",
        version=__version__,
        environment=components.settings.environment,
        provider=components.settings.model_provider,
        model=components.provider.model,
        endpoints=_endpoints(request),
        docs=None if components.settings.is_production else "/docs",
    )


@router.head("/page/{name}", include_in_schema=False)
@router.get("/page/{name}", include_in_schema=False)
async def file(name: str, request: Request, components: ComponentsDep) -> Response:
    """Return a file of the chat page."""
    if not has_page(components.settings) or name == _INDEX or name not in _FILES:
        raise HTTPException(404, "Not Found")
    return _FILES[name].answer(request)


def has_page(settings: Settings) -> bool:
    """Return whether browsers get the chat page: as set in the settings, and if unset, outside production."""
    return not settings.is_production if settings.chat_page is None else settings.chat_page


def prefers_html(accept: str) -> bool:
    """Return whether an `Accept` header prefers HTML to JSON (RFC 9110, 12.5.1). Without a preference, it is JSON."""
    return _quality(accept, "text", "html") > _quality(accept, "application", "json")


def _quality(accept: str, kind: str, form: str) -> float:
    """Return the weight of the most specific range that matches a media type; 0 if none matches."""
    weights: dict[str, float] = {}
    for part in accept.lower().split(","):
        media_range, *parameters = (word.strip() for word in part.split(";"))
        weights[media_range] = next((_weight(word[2:]) for word in parameters if word.startswith("q=")), 1.0)
    ranges = (f"{kind}/{form}", f"{kind}/*", "*/*")
    return next((weights[one] for one in ranges if one in weights), 0.0)


def _weight(written: str) -> float:
    try:
        return min(1.0, max(0.0, float(written)))
    except ValueError:
        return 0.0


def _endpoints(request: Request) -> list[str]:
    """Return the endpoints that the OpenAPI document lists."""
    return [
        f"{method.upper()} {path}" for path, methods in request.app.openapi()["paths"].items() for method in methods
    ]
