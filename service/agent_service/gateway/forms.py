"""Answers of the gateway's own in the form of the API that the caller speaks, so that each SDK raises its own errors.

Forms: Claude docs, "Errors"; OpenAI's API reference, "Error codes"; MCP, "Streamable HTTP" (JSON-RPC 2.0).
"""

from collections.abc import Mapping
from enum import Enum

import orjson
from aiohttp import web

JSON = "application/json"

# Codes of JSON-RPC 2.0 for a request that is not accepted, and for a failure that a later request may not meet.
_INVALID_REQUEST, _INTERNAL_ERROR = -32600, -32603
_TRANSIENT = frozenset({408, 429})


class Form(Enum):
    """An API whose form an answer has."""

    MESSAGES = "messages"
    CHAT_COMPLETIONS = "chat_completions"
    MCP = "mcp"


class RefusedError(Exception):
    """A call that the gateway answers itself: status, type of the error, a sentence, and further headers.

    `outcome` is that of the metrics, for a call that was made or would have been.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        headers: Mapping[str, str] | None = None,
        *,
        outcome: str = "refused",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.headers = headers
        self.outcome = outcome


def error(form: Form, refusal: RefusedError, request_id: str | None = None) -> web.Response:
    """Return an error in a form."""
    if form is Form.MESSAGES:
        body: dict[str, object] = {
            "type": "error",
            "error": {"type": refusal.kind, "message": refusal.message},
            "request_id": request_id,
        }
    elif form is Form.MCP:
        fails = refusal.status >= 500 or refusal.status in _TRANSIENT  # noqa: PLR2004
        code = _INTERNAL_ERROR if fails else _INVALID_REQUEST
        body = {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": refusal.message}}
    else:
        about = {"message": refusal.message, "type": refusal.kind, "param": None, "code": refusal.kind}
        body = {"error": about}
    return answer(body, status=refusal.status, headers=refusal.headers)


def answer(body: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a JSON answer."""
    return web.Response(body=orjson.dumps(body), status=status, headers=headers, content_type=JSON)
