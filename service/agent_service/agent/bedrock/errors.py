"""Errors of Amazon Bedrock in the form of the Messages API. Pure.

Types and status codes: "Common error types" and each operation of the API reference of Amazon Bedrock Runtime.
"""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from agent_service.agent.claude.endpoint import Failure, failure
from agent_service.agent.claude.statuses import kind_of

_KINDS = {
    "AccessDeniedException": (403, "permission_error"),
    "ValidationException": (400, "invalid_request_error"),
    "ResourceNotFoundException": (404, "not_found_error"),
    "ThrottlingException": (429, "rate_limit_error"),
    "TooManyRequestsException": (429, "rate_limit_error"),
    "ServiceQuotaExceededException": (429, "rate_limit_error"),
    "ModelNotReadyException": (529, "overloaded_error"),
    "ServiceUnavailableException": (503, "overloaded_error"),
    "ModelTimeoutException": (408, "timeout_error"),
    "ModelErrorException": (500, "api_error"),
    "ModelStreamErrorException": (500, "api_error"),
    "InternalServerException": (500, "api_error"),
}

# AWS responds 403 to all of these. In the Messages API, 401 means that the key itself is not accepted.
_NOT_ACCEPTED = frozenset(
    {
        "ExpiredTokenException",
        "IncompleteSignatureException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)

# Only the text distinguishes these.
_KEY_NOT_ACCEPTED = "Authentication failed"
_TOO_LONG = "Input is too long"
_NO_SUCH_MODEL = re.compile(r"model identifier is invalid|on-demand throughput", re.IGNORECASE)
_NOT_COUNTED = re.compile(r"count(ing)?[ -]?tokens", re.IGNORECASE)


def of_response(status: int, headers: Mapping[str, str], content: bytes) -> Failure:
    """Return an unsuccessful response in the form of the Messages API.

    A response without a type of AWS is returned as it is: it comes from something in between.
    """
    found = _object(content)
    named = headers.get("x-amzn-errortype") or found.get("__type")
    if not isinstance(named, str):
        return Failure(status, content)
    return of_type(named, _message(found), status)


def of_type(named: str, message: str, status: int = 500) -> Failure:
    """Return an error of a type, which `named` contains among a namespace and an address, with its message."""
    kind = named.partition(":")[0].rpartition("#")[2]
    # The type of an event in a stream begins with a small letter.
    kind = kind[:1].upper() + kind[1:]
    if kind in _NOT_ACCEPTED or (kind == "AccessDeniedException" and _KEY_NOT_ACCEPTED in message):
        return failure(401, "authentication_error", message)
    if kind == "ValidationException":
        if _NOT_COUNTED.search(message):
            # As a gateway without this call responds.
            return failure(404, None, message)
        if _NO_SUCH_MODEL.search(message):
            return failure(404, "not_found_error", message)
        if _TOO_LONG in message:
            message = f"prompt is too long: {message}"
    if kind in _KINDS:
        ours, type_of_error = _KINDS[kind]
        return failure(ours, type_of_error, message)
    return failure(status, kind_of(status), message)


def _message(found: Mapping[str, Any]) -> str:
    message = found.get("message") or found.get("Message")
    return message if isinstance(message, str) else ""


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def of_frame(named: str, content: bytes) -> Failure:
    """Return an exception within a stream in the form of the Messages API."""
    return of_type(named, _message(_object(content)))
