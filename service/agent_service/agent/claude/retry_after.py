"""The time after which the model API accepts a request again, and how long the SDK may wait for it."""

import email.utils
import math
import time
from collections.abc import Mapping
from datetime import UTC

import httpx2

# The SDK sleeps for the time in `Retry-After`. Up to this limit, waiting is better than an error. Beyond it, an
# immediate error serves the client better.
LONGEST_RETRY_WAIT_SECONDS = 2.0

# The longest `Retry-After` that a client receives. The limits of the model API are per minute.
LONGEST_RETRY_AFTER_SECONDS = 3600.0


def bound_wait(response: httpx2.Response) -> None:
    """Limit the wait in the headers, for which the SDK sleeps, or prevent its retry if the wait is too long."""
    wait = wait_seconds(response.headers)
    for name in ("retry-after-ms", "retry-after"):
        response.headers.pop(name, None)
    if wait is None:
        return
    response.headers["retry-after"] = str(wait)
    if wait > LONGEST_RETRY_WAIT_SECONDS:
        response.headers["x-should-retry"] = "false"


def retry_after(response: httpx2.Response) -> int | None:
    """Return `Retry-After` in whole seconds, rounded up and at most an hour; None when absent or invalid."""
    wait = wait_seconds(response.headers)
    return None if wait is None else math.ceil(wait)


def wait_seconds(headers: Mapping[str, str]) -> float | None:
    """Return the time in the headers, at most an hour; None when absent or invalid. Names match in any case."""
    milliseconds = _number(headers.get("retry-after-ms", ""))
    value = headers.get("retry-after", "")
    wait = _number(value) if milliseconds is None else milliseconds / 1000
    if wait is None:
        wait = _seconds_until(value)
    return None if wait is None else min(max(0.0, wait), LONGEST_RETRY_AFTER_SECONDS)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return None if math.isnan(number) else number


def _seconds_until(date: str) -> float | None:
    try:
        when = email.utils.parsedate_to_datetime(date)
        # A date without a zone is UTC (RFC 9110, 5.6.7).
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - time.time()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
