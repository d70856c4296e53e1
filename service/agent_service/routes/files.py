"""Files of the package for browsers: they may load nothing from elsewhere, and are sent again only if changed."""

import hashlib
from importlib.resources.abc import Traversable

from fastapi import Request, Response

_MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

# Nothing from elsewhere, nothing inline, not in another site's frame: this limits the effect of a hole in a page's
# code (CSP 3).
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # Revalidated on each use, and answered 304 if unchanged: the files of two versions never mix for long.
    "Cache-Control": "no-cache",
}


class File:
    """One file with its response headers."""

    def __init__(self, source: Traversable) -> None:
        self.content = source.read_bytes()
        self.etag = f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'
        self.headers = {"Content-Type": _MEDIA_TYPES[source.name.rsplit(".", 1)[1]], "ETag": self.etag, **_HEADERS}

    def answer(self, request: Request, **more: str) -> Response:
        """Return the file with `more` headers, or 304 if the client already has it (RFC 9110, 13.1.2)."""
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")}
        headers = {**self.headers, **more}
        if self.etag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        return Response(self.content, headers=headers)
