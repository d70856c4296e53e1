"""Our errors as those of A2A, which the SDK puts into the form of each binding."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from a2a.utils.errors import (
    A2A_ERROR_MAPPING,
    A2A_ERROR_REASONS,
    A2AError,
    ErrorMapping,
    InternalError,
    InvalidParamsError,
    TaskNotFoundError,
    UnsupportedOperationError,
)

from agent_service.agent.errors import PromptTooLongError
from agent_service.chat.approval_errors import DecidedError, NotAllowedError, UnknownApprovalError
from agent_service.state.redis_errors import StateUnavailableError
from agent_service.tasks.following import UnknownTaskError
from agent_service.tasks.queue import QueueFullError
from agent_service.telemetry.logs import where

_log = structlog.get_logger(__name__)

_UNAVAILABLE = (StateUnavailableError, QueueFullError)


class UnavailableError(A2AError):
    """The agent cannot take a message now. A2A has no code of its own for that.

    Over HTTP+JSON it is 503, so that clients and gateways try again (google.rpc.Code), and in JSON-RPC an internal
    error, which the SDK makes of errors that it does not know.
    """


class LimitedError(A2AError):
    """A limit of the caller refuses its message. A2A has no code of its own for that.

    Over HTTP+JSON it is 429 (google.rpc.Code: RESOURCE_EXHAUSTED), and in JSON-RPC an internal error.
    """


A2A_ERROR_MAPPING[LimitedError] = ErrorMapping(429, "RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED")
A2A_ERROR_REASONS[LimitedError] = "RESOURCE_EXHAUSTED"
A2A_ERROR_MAPPING[UnavailableError] = ErrorMapping(503, "UNAVAILABLE", "UNAVAILABLE")
A2A_ERROR_REASONS[UnavailableError] = "UNAVAILABLE"


@contextmanager
def translated() -> Iterator[None]:
    """Raise the errors of the block as those of A2A. The SDK would show any other one to the client, and log it."""
    try:
        yield
    except A2AError:
        raise
    except (NotAllowedError, DecidedError) as error:
        raise UnsupportedOperationError(str(error)) from None
    except (UnknownApprovalError, PromptTooLongError) as error:
        raise InvalidParamsError(str(error)) from None
    except UnknownTaskError:
        raise unknown_task() from None
    except _UNAVAILABLE as error:
        raise UnavailableError(str(error), data={"retry": "later"}) from None
    except Exception as error:
        _log.error("A request of A2A failed unexpectedly", error=type(error).__name__, where=where(error))
        raise InternalError("An internal error occurred.") from None


def unknown_task() -> TaskNotFoundError:
    """Return the error for a task that does not exist, or belongs to another client."""
    return TaskNotFoundError(str(UnknownTaskError()))
