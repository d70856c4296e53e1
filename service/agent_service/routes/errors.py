"""Errors as a client sees them: always `{"detail": …}`, never with the client's input."""

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from agent_service.agent.errors import (
    ModelError,
    ModelFailedError,
    ModelRefusedError,
    OverloadedError,
    PromptTooLongError,
    RateLimitedError,
    TimedOutError,
    UnreachableError,
    UnsupportedInputError,
)
from agent_service.chat.approval_errors import CannotWaitError, DecidedError, NotAllowedError, UnknownApprovalError
from agent_service.state.redis_errors import StateUnavailableError
from agent_service.tasks.queue import QueueFullError

# The first class that matches decides, so subclasses come before their parents.
_STATUS: tuple[tuple[type[ModelError], int], ...] = (
    (OverloadedError, 503),
    (RateLimitedError, 429),
    (UnreachableError, 503),
    (TimedOutError, 504),
    (PromptTooLongError, 422),
    (UnsupportedInputError, 422),
    (ModelRefusedError, 502),
    (ModelFailedError, 502),
    (ModelError, 502),
)

_REFUSALS: dict[type[Exception], int] = {NotAllowedError: 403, UnknownApprovalError: 404, DecidedError: 409}

_UNPROCESSABLE = 422

# Enough to correct a request. The client chooses the names of unknown fields, in any number and of any length.
_MOST_FAULTS = 16
_LONGEST_TEXT = 200

# Seconds to wait when the model API limits us without a time, or when the state is unavailable.
_DEFAULT_RETRY_AFTER = 5


class ErrorAnswer(BaseModel):
    """Body of an error response."""

    detail: str
    kind: str | None = Field(
        None,
        description="Why there is no connection to the model API or the runtime, in one word, such as `certificate` or "
        "`dns`.",
    )


class Fault(BaseModel):
    """One fault of the input."""

    type: str = Field(description="Kind of the fault, in one word.")
    loc: list[str | int] = Field(description="Location of the fault: the names and indexes that lead to it.")
    msg: str = Field(description="Description of the fault.")


class InvalidInput(BaseModel):
    """Body of a 422 response."""

    detail: str | list[Fault]


def describe(*statuses: int) -> dict[int | str, dict[str, object]]:
    """Return the OpenAPI description of a route's error responses."""
    descriptions = {
        403: "This agent does not allow the request to this caller; `detail` has the reason.",
        404: "It does not exist, or belongs to another client.",
        408: "The request's body did not arrive in time.",
        409: "The idempotency key was used for another request, or the tool call was decided before.",
        413: "The request's body is too large.",
        422: "The input cannot be used.",
        429: "Too many requests or tokens, here or at the model API; `Retry-After` has the time to wait.",
        502: "The model API or the runtime refused the request, or failed.",
        503: "The model API, the runtime or the state cannot be reached or is overloaded, or this instance is shutting "
        "down.",
        504: "The model or the runtime did not finish in time.",
    }
    return {
        status: {
            "model": InvalidInput if status == _UNPROCESSABLE else ErrorAnswer,
            "description": descriptions[status],
        }
        for status in statuses
    }


def install(app: FastAPI) -> None:
    """Install the error handlers of the service in the app."""
    app.add_exception_handler(ModelError, _model_error)
    app.add_exception_handler(StateUnavailableError, _unavailable)
    app.add_exception_handler(QueueFullError, _unavailable)
    app.add_exception_handler(CannotWaitError, _unavailable)
    for refusal in _REFUSALS:
        app.add_exception_handler(refusal, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)


def status_of(error: Exception) -> int:
    """Return the HTTP status for an error in a turn with the model."""
    unforeseen = 502 if isinstance(error, ModelError) else 500
    return next((status for kind, status in _STATUS if isinstance(error, kind)), unforeseen)


async def _model_error(_: Request, error: Exception) -> JSONResponse:
    status = status_of(error)
    headers = {}
    if isinstance(error, RateLimitedError):
        headers["Retry-After"] = str(_DEFAULT_RETRY_AFTER if error.retry_after is None else error.retry_after)
    kind = {"kind": error.kind} if isinstance(error, UnreachableError) else {}
    return JSONResponse({"detail": str(error), **kind}, status_code=status, headers=headers)


async def _unavailable(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=503, headers={"Retry-After": str(_DEFAULT_RETRY_AFTER)})


async def _refused(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=_REFUSALS[type(error)])


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    # FastAPI's own handler quotes the input, which is user text and may contain what JSON cannot encode.
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    detail = [{key: fault[key] for key in ("type", "loc", "msg")} for fault in faults[:_MOST_FAULTS]]
    return JSONResponse({"detail": _printable(detail, _LONGEST_TEXT)}, status_code=422)


async def _http_error(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    # FastAPI answers 400 to a body that cannot be decoded as text. To a client, that is input like any other.
    status = 422 if error.status_code == 400 else error.status_code  # noqa: PLR2004
    return JSONResponse({"detail": _printable(error.detail)}, status_code=status, headers=error.headers)


def _printable(value: object, longest: int | None = None) -> object:
    """Replace what UTF-8 cannot encode (half a surrogate pair in the name of an unknown field). Cut to `longest`."""
    if isinstance(value, str):
        text = value if longest is None or len(value) <= longest else f"{value[:longest]}…"
        return text.encode("utf-8", "replace").decode()
    if isinstance(value, list | tuple):
        return [_printable(item, longest) for item in value]
    if isinstance(value, dict):
        return {key: _printable(item, longest) for key, item in value.items()}
    return value
