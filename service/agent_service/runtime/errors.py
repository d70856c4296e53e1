"""Errors of the runtime, in sentences that a client may see. They name the runtime, and never quote it."""

from agent_service.agent.errors import (
    ModelError,
    ModelFailedError,
    ModelRefusedError,
    OverloadedError,
    TimedOutError,
    UnreachableError,
)

NO_ENDPOINT = "no_endpoint"
"""Kind of the error for a path that the runtime does not have."""

_UNREACHABLE = {
    "connection_refused": "Cannot connect to the agent's runtime: nothing listens at its address yet, or any more.",
    "connect_timeout": "Cannot connect to the agent's runtime: it did not accept the connection in time.",
    "disconnected": "The agent's runtime closed the connection before it answered.",
    "dns": "Cannot connect to the agent's runtime: its name cannot be resolved (DNS).",
    "no_route": "Cannot connect to the agent's runtime: there is no route to its address.",
    "certificate": "Cannot connect to the agent's runtime: its certificate is not trusted.",
    "tls": "Cannot connect to the agent's runtime: TLS failed. Check the scheme and the port of its address.",
    "connection": "Cannot connect to the agent's runtime.",
}


def unreachable(kind: str, *, upstream: str | None = None) -> UnreachableError:
    """Return the error for a connection that failed; `kind` is one word, such as `connection_refused`."""
    return UnreachableError(_UNREACHABLE.get(kind, _UNREACHABLE["connection"]), kind=kind, upstream=upstream)


def of_status(status: int, *, upstream: str | None = None, retry_after: int | None = None) -> ModelError:
    """Return the error for an HTTP status other than 2xx."""
    if status in {429, 503}:
        words = f"The agent's runtime is busy ({status}); try again later."
        return OverloadedError(words, retry_after, upstream=upstream)
    if status in {408, 504}:
        return TimedOutError(f"The agent's runtime did not answer in time ({status}).", upstream=upstream)
    if status in {404, 405, 501}:
        words = (
            f"The agent's runtime has no such endpoint ({status}): it may speak another protocol, or at another path."
        )
        return ModelFailedError(words, kind=NO_ENDPOINT, upstream=upstream)
    if 300 <= status < 400:  # noqa: PLR2004
        return ModelFailedError(f"The agent's runtime redirects ({status}), which is not followed.", kind="redirect")
    if status >= 500:  # noqa: PLR2004
        return ModelFailedError(f"The agent's runtime failed ({status}).", upstream=upstream)
    return ModelRefusedError(f"The agent's runtime refused the request ({status}).", upstream=upstream)


def not_http(*, upstream: str | None = None) -> ModelFailedError:
    """Return the error for a server that answers something other than HTTP."""
    words = "The server at the address of the agent's runtime does not speak HTTP correctly."
    return ModelFailedError(words, kind="protocol", upstream=upstream)


def no_health_path(path: str, *, upstream: str | None = None) -> ModelFailedError:
    """Return the error for a runtime without the path that is checked."""
    words = f"The agent's runtime has no health endpoint at {path}: set RUNTIME_HEALTH_PATH to one that it has."
    return ModelFailedError(words, kind="no_health_path", upstream=upstream)


def reported(*, upstream: str | None = None) -> ModelFailedError:
    """Return the error for a failure that the runtime reports within its answer."""
    return ModelFailedError("The agent's runtime reported an error.", upstream=upstream)


def unreadable(what: str, *, upstream: str | None = None) -> ModelFailedError:
    """Return the error for an answer in another form; `what` says in which, such as `is not JSON`."""
    return ModelFailedError(f"The answer of the agent's runtime {what}.", kind="unreadable", upstream=upstream)


def too_large(most_bytes: int) -> ModelFailedError:
    """Return the error for an answer that is larger than is read."""
    return ModelFailedError(f"The answer of the agent's runtime exceeds {most_bytes // 2**20} MiB.", kind="too_large")


def broke_off(*, upstream: str | None = None) -> ModelFailedError:
    """Return the error for an answer that ended before it was complete."""
    return ModelFailedError("The agent's runtime broke off its answer.", kind="broke_off", upstream=upstream)


def timed_out() -> TimedOutError:
    """Return the error for an answer that did not arrive in time."""
    return TimedOutError("The agent's runtime did not answer in time.")
