"""Errors and limits in the form of each protocol. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

from agent_service.middleware.error_form import Form, Problem

# OpenAI API reference, "Error codes".
_OPENAI_TYPES = {
    HTTPStatus.UNAUTHORIZED: ("authentication_error", "invalid_api_key"),
    HTTPStatus.FORBIDDEN: ("permission_error", None),
    HTTPStatus.NOT_FOUND: ("invalid_request_error", "not_found"),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("invalid_request_error", "request_too_large"),
    HTTPStatus.TOO_MANY_REQUESTS: ("rate_limit_error", "rate_limit_exceeded"),
}

# Claude docs, "Errors".
_ANTHROPIC_TYPES = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "request_too_large",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "overloaded_error",
    HTTPStatus.GATEWAY_TIMEOUT: "timeout_error",
}

# JSON-RPC 2.0, 5.1.
_INVALID_REQUEST, _INTERNAL_ERROR = -32600, -32603


def openai_type(status: int) -> tuple[str, str | None]:
    """Return the `type` and the `code` of an OpenAI error with this status."""
    found = _OPENAI_TYPES.get(HTTPStatus(status))
    if found is not None:
        return found
    return ("server_error", None) if status >= HTTPStatus.INTERNAL_SERVER_ERROR else ("invalid_request_error", None)


def anthropic_type(status: int) -> str:
    """Return the `type` of an Anthropic error with this status."""
    found = _ANTHROPIC_TYPES.get(HTTPStatus(status))
    if found is not None:
        return found
    return "api_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"


class _OpenAI:
    def error(self, problem: Problem) -> Mapping[str, Any]:
        kind, code = openai_type(problem.status)
        return {"error": {"message": problem.detail, "type": kind, "param": problem.field, "code": code}}

    def headers(self, limit: int, remaining: int, reset: int, _request_id: str) -> Mapping[str, str]:
        return {
            "x-ratelimit-limit-requests": str(limit),
            "x-ratelimit-remaining-requests": str(remaining),
            "x-ratelimit-reset-requests": f"{reset}s",
        }

    def plain_headers(self, _request_id: str) -> Mapping[str, str]:
        return {}


class _Anthropic:
    def error(self, problem: Problem) -> Mapping[str, Any]:
        error = {"type": anthropic_type(problem.status), "message": problem.detail}
        return {"type": "error", "error": error, "request_id": problem.request_id}

    def headers(self, limit: int, remaining: int, reset: int, _request_id: str) -> Mapping[str, str]:
        at = datetime.now(UTC) + timedelta(seconds=reset)
        return {
            "anthropic-ratelimit-requests-limit": str(limit),
            "anthropic-ratelimit-requests-remaining": str(remaining),
            "anthropic-ratelimit-requests-reset": at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        }

    def plain_headers(self, request_id: str) -> Mapping[str, str]:
        return {"request-id": request_id}


class _JsonRpc:
    """JSON-RPC over HTTP, as MCP and A2A use it: an error without the id of a request, which was not read."""

    def error(self, problem: Problem) -> Mapping[str, Any]:
        server = problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        data = {"status": problem.status} | ({"retryAfter": problem.retry_after} if problem.retry_after else {})
        error = {"code": _INTERNAL_ERROR if server else _INVALID_REQUEST, "message": problem.detail, "data": data}
        return {"jsonrpc": "2.0", "id": None, "error": error}

    def headers(self, _limit: int, _remaining: int, _reset: int, _request_id: str) -> Mapping[str, str]:
        return {}

    def plain_headers(self, _request_id: str) -> Mapping[str, str]:
        return {}


FORMS: Mapping[str, Form] = {
    "openai": _OpenAI(),
    "anthropic": _Anthropic(),
    "a2a": _JsonRpc(),
    "mcp": _JsonRpc(),
}
"""The forms of the protocols, by the names of `Paths.protocol`."""
