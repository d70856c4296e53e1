"""`GET /docs`: the API reference for people, outside production.

The page is our own. It needs no CDN, so it works offline. It needs no inline script, so it has the strict policy of the
chat page. swagger-ui would add 1.5 MB of generated code to every image, with security fixes to follow.
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
