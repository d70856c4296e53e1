"""Where a request goes in the runtime: its path and query as sent, behind the prefix. Pure.

Servers disagree about `..`, `//`, `\\` and their encoded forms. A path is therefore passed on only if no reading of it
leaves the prefix or is one of the agent's own paths.
"""

import re
from collections.abc import Callable
from urllib.parse import unquote

_SLASHES = re.compile(r"/{2,}")
_SEPARATORS = re.compile(r"[/\\]")
_DOTS = frozenset({".", ".."})

# RFC 3986, 2: anything else must be percent-encoded.
_WRITTEN = re.compile(rb"[!-~]*")


class BadTargetError(Exception):
    """The path or query cannot be passed on. The message is for the client."""


class ReservedError(Exception):
    """Another spelling of a path that is the agent's own."""


def target(prefix: str, raw_path: bytes, query: bytes, is_reserved: Callable[[str], bool]) -> str:
    """Return the path and query for the runtime.

    Args:
        prefix: path that is put in front, without a slash at its end.
        raw_path: path as sent, percent-encoded.
        query: query as sent, without the question mark.
        is_reserved: whether a decoded path is the agent's own.

    Raises:
        BadTargetError: the path or query is not valid, or the path could leave the prefix.
        ReservedError: the path is a spelling of one of the agent's own.
    """
    if not raw_path.startswith(b"/"):
        raise BadTargetError("The request's target is not a path.")
    if _WRITTEN.fullmatch(raw_path) is None or _WRITTEN.fullmatch(query) is None:
        raise BadTargetError("The path or query contains characters that must be percent-encoded.")
    decoded = unquote(raw_path.decode("ascii"))
    # Some servers cut parameters off a segment (`..;a=b`) before they resolve it.
    if any(segment.partition(";")[0] in _DOTS for segment in _SEPARATORS.split(decoded)):
        raise BadTargetError("The path contains `.` or `..`; send the path that is meant.")
    simple = _SLASHES.sub("/", decoded.replace("\\", "/"))
    if is_reserved(simple) or is_reserved(simple.rstrip("/")):
        raise ReservedError
    return prefix + raw_path.decode("ascii") + (f"?{query.decode('ascii')}" if query else "")
