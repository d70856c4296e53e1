"""Maps errors of the model API to our own."""

import anthropic
import httpx2

from agent_service.agent.claude import connection
from agent_service.agent.claude.credentials import OF_CREDENTIALS
from agent_service.agent.claude.events import Event
from agent_service.agent.claude.retry_after import retry_after
from agent_service.agent.errors import (
    CredentialsRefusedError,
    ModelError,
    ModelFailedError,
    ModelRefusedError,
    NotOfferedError,
    OverloadedError,
    PromptTooLongError,
    RateLimitedError,
    TimedOutError,
)

# The API has no error type for these. Only the text distinguishes them from other invalid requests.
_TOO_LONG = ("prompt is too long", "exceed context limit")

_PROXY_WANTS_CREDENTIALS = 407

# 402: billing; 404: no such model (Claude docs, "Errors").
_NOT_OFFERED = frozenset({402, 404})


def of_exception(error: Exception) -> ModelError:
    """Return our error for one of the SDK or of its HTTP library (whose errors surface while a stream is read)."""
    if isinstance(error, anthropic.APIStatusError):
        return _of_status(error.status_code, error.body, retry_after(error.response))
    cause = error.__cause__ if isinstance(error, anthropic.APIConnectionError) else error
    if isinstance(cause, httpx2.TimeoutException) and not isinstance(cause, httpx2.ConnectTimeout):
        return TimedOutError("The model API did not answer in time.", upstream=str(cause))
    if isinstance(error, anthropic.APIConnectionError) or isinstance(
        cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError
    ):
        return connection.failed(error)
    if isinstance(error, httpx2.HTTPError):
        return ModelFailedError("The model API broke off its answer.", kind="broke_off", upstream=str(error))
    return unreadable(error)


def of_event(event: Event) -> ModelError:
    """Return our error for an error event in a stream, whose HTTP status was 200."""
    kind, _ = _parts(event)
    return _of_status(_STATUS_OF_TYPE.get(kind or "", 500), event, None)


def unreadable(error: Exception) -> ModelFailedError:
    """Return our error for an answer that is not in the model API's format."""
    return ModelFailedError(
        "The model API returned an answer that could not be read.", kind="unreadable", upstream=type(error).__name__
    )


def _of_status(status: int, body: object, wait: int | None) -> ModelError:
    upstream = _parts(body)[1] or (body if isinstance(body, str) else None)
    if status < 400:  # noqa: PLR2004
        return ModelFailedError(
            f"The address of the model API (ANTHROPIC_BASE_URL) redirects to another ({status}). Redirects are not "
            "followed, as they would send the messages there.",
            kind="redirect",
        )
    if status >= 500 or status in {408, 429}:  # noqa: PLR2004
        return _failed(status, upstream, wait)
    if status == _PROXY_WANTS_CREDENTIALS:
        return connection.unreachable("proxy", upstream=upstream)
    return _refused(status, body, upstream)


def _failed(status: int, upstream: str | None, wait: int | None) -> ModelError:
    if status == 429:  # noqa: PLR2004
        return RateLimitedError("The model API limits the rate of requests; try again later.", wait, upstream=upstream)
    if status in {503, 529}:
        return OverloadedError("The model API is overloaded; try again later.", wait, upstream=upstream)
    if status in {408, 504}:
        return TimedOutError("The model API did not answer in time.", upstream=upstream)
    return ModelFailedError(f"The model API failed ({status}).", upstream=upstream)


def _refused(status: int, body: object, upstream: str | None) -> ModelRefusedError:
    kind, message = _parts(body)
    if status in {401, 403}:
        if kind in OF_CREDENTIALS:
            return CredentialsRefusedError(
                f"The model API did not accept the agent's credentials ({status}).", upstream=upstream
            )
        return ModelRefusedError(
            f"Something between the agent and the model API refused the request ({status}).",
            kind="intercepted",
            upstream=upstream,
        )
    if message and any(words in message for words in _TOO_LONG):
        return PromptTooLongError("The conversation has grown too long for the model; start a new one.")
    if kind == "not_found_error":
        return NotOfferedError(
            f"The model API refused the request ({status}): it does not have the model, or not in this region.",
            kind="model_not_found",
            upstream=upstream,
        )
    refused = NotOfferedError if status in _NOT_OFFERED else ModelRefusedError
    return refused(f"The model API refused the request ({status}).", upstream=upstream)


def _parts(body: object) -> tuple[str | None, str | None]:
    """Return the type and message of an error in Anthropic's format (Claude docs, "Errors"); None if missing."""
    if not isinstance(body, dict):
        return None, None
    error = body.get("error")
    if not isinstance(error, dict):
        return None, None
    kind, message = error.get("type"), error.get("message")
    known = kind if isinstance(kind, str) and body.get("type") == "error" else None
    return known, message if isinstance(message, str) else None


# https://docs.claude.com/en/api/errors
_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
