"""What the model API's faults are called here."""

import anthropic
import httpx2

from agent_service.agent.errors import (
    CredentialsRefusedError,
    ModelError,
    ModelFailedError,
    ModelRefusedError,
    OverloadedError,
    PromptTooLongError,
    RateLimitedError,
    TimedOutError,
    UnreachableError,
)
from agent_service.agent.events import Event
from agent_service.agent.wire import retry_after

# The API has no error type for these; the words are all that tells them from other requests that are wrong.
_TOO_LONG = ("prompt is too long", "exceed context limit")


def of_exception(error: Exception) -> ModelError:
    """Give our error for one of the SDK's or of the HTTP library below it (which shows while a stream is read)."""
    if isinstance(error, anthropic.APIStatusError):
        return _with_upstream(
            _of_status(error.status_code, error.api_message, retry_after(error.response)), error.api_message
        )
    cause = error.__cause__ if isinstance(error, anthropic.APIConnectionError) else error
    if isinstance(cause, httpx2.TimeoutException) and not isinstance(cause, httpx2.ConnectTimeout):
        return TimedOutError("The model API did not answer in time.")
    if isinstance(error, anthropic.APIConnectionError) or isinstance(
        cause, httpx2.ConnectError | httpx2.ConnectTimeout
    ):
        return UnreachableError("There is no connection to the model API.")
    if isinstance(error, httpx2.HTTPError):
        return ModelFailedError("The model API broke off its answer.")
    return ModelFailedError("The model API gave an answer that could not be read.")


def of_event(event: Event) -> ModelError:
    """Give our error for one that comes as an event of a stream, whose HTTP status was 200."""
    error = event["error"]
    message = error.get("message")
    return _with_upstream(_of_status(_STATUS_OF_TYPE.get(error["type"], 500), message, None), message)


def _with_upstream(error: ModelError, message: object) -> ModelError:
    # Words about a key that is not accepted might quote it.
    if isinstance(message, str) and not isinstance(error, CredentialsRefusedError):
        error.upstream = message
    return error


def _of_status(status: int, message: str | None, wait: int | None) -> ModelError:
    if status == 429:  # noqa: PLR2004
        return RateLimitedError("The model API limits the rate of requests; try again later.", wait)
    if status in {503, 529}:
        return OverloadedError("The model API is overloaded; try again later.", wait)
    if status in {408, 504}:
        return TimedOutError("The model API did not answer in time.")
    if status >= 500:  # noqa: PLR2004
        return ModelFailedError(f"The model API failed ({status}).")
    return _refused(status, message)


def _refused(status: int, message: str | None) -> ModelRefusedError:
    if status in {401, 403}:
        return CredentialsRefusedError(f"The model API did not accept the agent's credentials ({status}).")
    if message and any(words in message for words in _TOO_LONG):
        return PromptTooLongError("The conversation has grown too long for the model; start a new one.")
    return ModelRefusedError(f"The model API refused the request ({status}); the agent's log has its reason.")


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
