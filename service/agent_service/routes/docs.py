"""`GET /docs`: the reference of the API for people, outside production.

A page of our own: it needs no CDN, so it works offline, and no inline script, so that it has the chat page's strict
policy. swagger-ui would be 1.5 MB of generated code in every image, with security fixes to follow.
"""

from importlib import resources

from fastapi import APIRouter, HTTPException, Request, Response

from agent_service.routes.files import File

router = APIRouter(include_in_schema=False)

_PACKAGE = resources.files("agent_service")
_INDEX = "docs.html"
_FILES = {
    source.name: File(source)
    for source in (
        *(_PACKAGE / "docs_page" / name for name in (_INDEX, "docs.css", "docs.js")),
        *(_PACKAGE / "page" / name for name in ("theme.css", "icon.svg")),
    )
}


@router.head("/docs", include_in_schema=False)
@router.get("/docs")
async def page(request: Request) -> Response:
    """Return the page."""
    return _FILES[_INDEX].answer(request)


@router.head("/docs/{name}", include_in_schema=False)
@router.get("/docs/{name}")
async def file(name: str, request: Request) -> Response:
    """Return a file that the page uses."""
    if name == _INDEX or name not in _FILES:
        raise HTTPException(404, "Not Found")
    return _FILES[name].answer(request)
