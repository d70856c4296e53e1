"""Sessions of the revisions of MCP that have them, as labels only: nothing is kept between requests.

So a client goes on after a restart, and in each of several processes. A session relates a cancellation to its call.
"""

import re
import secrets
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

SESSION = "mcp-session-id"
"""Header with the id of a session (MCP, "Session Management"), in lower case."""

_ID = re.compile(r"[0-9a-f]{32}")


class Message(NamedTuple):
    """Method and params of a message that concerns a session; both are empty for all others."""

    method: str = ""
    params: Mapping[str, Any] = {}


_OTHER = Message()


def new_session() -> str:
    """Return the id of a new session."""
    return secrets.token_hex(16)


def is_session(text: str) -> bool:
    """Return whether a text has the form of our ids."""
    return _ID.fullmatch(text) is not None


def message_of(body: bytes) -> Message:
    """Return what a body does to its session: `initialize` or `notifications/cancelled`."""
    if b"initialize" not in body and b"notifications/cancelled" not in body:
        return _OTHER
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _OTHER
    if not isinstance(message, dict):
        return _OTHER
    params = message.get("params")
    return Message(str(message.get("method")), params if isinstance(params, dict) else {})
