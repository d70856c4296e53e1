"""Errors of clouds in the form of the Messages API, by their HTTP status. Pure."""

from typing import Any

import orjson

from agent_service.agent.claude.endpoint import Failure, failure

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def about(content: bytes) -> dict[str, Any] | None:
    """Return the object `error` of a cloud's response; None for one in Anthropic's form, or in no form of a cloud."""
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    if isinstance(found, list) and found:
        found = found[0]  # Google encloses the errors of a stream in an array.
    if not isinstance(found, dict) or found.get("type") == "error":
        return None
    error = found.get("error")
    return error if isinstance(error, dict) and "code" in error else None


def kind_of(status: int) -> str:
    """Return the type of error of the Messages API for an HTTP status."""
    return _KINDS.get(status) or ("api_error" if status >= 500 else "invalid_request_error")  # noqa: PLR2004


def of_status(status: int, error: dict[str, Any]) -> Failure:
    """Return an error with the type for its status, and its own message."""
    message = error.get("message")
    return failure(status, kind_of(status), message if isinstance(message, str) else "")
