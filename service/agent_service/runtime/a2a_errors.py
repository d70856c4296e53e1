"""Errors of A2A: those that JSON-RPC and HTTP+JSON carry, and the states in which a task has failed."""

from typing import Any

import orjson

from agent_service.agent.errors import ModelError, ModelFailedError, ModelRefusedError
from agent_service.runtime import errors
from agent_service.runtime.a2a_events import AUTH_REQUIRED, CANCELED, REJECTED

UNKNOWN_TASK = "unknown_task"
"""Kind of the error for a task that the agent does not have, or no longer."""

# Codes of JSON-RPC 2.0, and of A2A (1.0, section 5.4).
_TASK_NOT_FOUND = -32001
_INVALID_PARAMS = -32602
# Invalid request, method not found; operation, content type, extension or version not supported.
_OTHER_PROTOCOL = frozenset({-32700, -32600, -32601, -32004, -32005, -32008, -32009})

# An excerpt of the agent's error, for the log.
_MOST_UPSTREAM_CHARACTERS = 2_000


def of_error(error: object) -> ModelError:
    """Return the error in the field `error` of a reply. Its own text is for the log only."""
    upstream = _excerpt(error)
    code = error.get("code") if isinstance(error, dict) else None
    if not isinstance(code, int):
        return errors.reported(upstream=upstream)
    if 400 <= code < 600:  # noqa: PLR2004
        return errors.of_status(code, upstream=upstream)
    if code == _TASK_NOT_FOUND:
        return ModelFailedError("The agent's runtime no longer has the task.", kind=UNKNOWN_TASK, upstream=upstream)
    if code == _INVALID_PARAMS:
        return ModelRefusedError("The agent's runtime refused the request as invalid.", upstream=upstream)
    if code in _OTHER_PROTOCOL:
        words = "The agent's runtime does not support the call: its agent card may describe another version of A2A."
        return ModelFailedError(words, kind="protocol", upstream=upstream)
    return errors.reported(upstream=upstream)


def of_state(state: str, text: str) -> ModelError:
    """Return the error for a task that ended in this state, with a message of this text."""
    upstream = text[:_MOST_UPSTREAM_CHARACTERS] or None
    if state == REJECTED:
        return ModelRefusedError("The agent's runtime rejected the message.", upstream=upstream)
    if state == AUTH_REQUIRED:
        words = "The agent's runtime asks for credentials, which cannot be passed on to it."
        return ModelFailedError(words, kind=AUTH_REQUIRED, upstream=upstream)
    if state == CANCELED:
        return ModelFailedError("The agent's runtime canceled the task.", kind=CANCELED, upstream=upstream)
    return errors.reported(upstream=upstream)


def _excerpt(error: Any) -> str:
    try:
        text = orjson.dumps(error).decode()
    except (TypeError, ValueError):
        text = repr(error)
    return text[:_MOST_UPSTREAM_CHARACTERS]
