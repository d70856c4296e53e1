"""Why a server of tools is unavailable, in one word for programs: in metrics, in `/health` and in the log. Pure.

The operator has a sentence for each word (controller/status/tool_servers.py); a test compares the two lists.
"""

from collections.abc import Iterator
from http import HTTPStatus
from typing import get_args

import httpcore2

from agent_service.network.errors import Failure as NetworkFailure
from agent_service.network.errors import failure_of
from agent_service.tooling.exchange import Exchange, Failure
from agent_service.tooling.secrets import CredentialsError, TokenError

_PROTOCOL, _NO_ENDPOINT, _TIMED_OUT, _PROXY = "protocol", "no_endpoint", "timed_out", "proxy"

_OF_FAILURE = {
    Failure.UNREACHABLE: "unreachable",
    Failure.ADDRESS_REFUSED: "refused_address",
    Failure.CREDENTIALS: CredentialsError.kind,
    Failure.UNAUTHORIZED: "credentials_refused",
    Failure.SESSION_LOST: "disconnected",
    Failure.REDIRECTED: "redirect",
    Failure.REFUSED: "refused",
    Failure.ANSWERED_WITH_ERROR: "refused",
    Failure.TOO_LARGE: "too_large",
    Failure.NO_ROOM: "too_large",
    Failure.UNREADABLE: _PROTOCOL,
    Failure.FAILED: "failed",
    Failure.LOST: "disconnected",
    Failure.TIMED_OUT: _TIMED_OUT,
}
_NO_PATH = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED})

KINDS = frozenset({*_OF_FAILURE.values(), *get_args(NetworkFailure), TokenError.kind, _NO_ENDPOINT, _PROXY})
"""Every kind."""


def kind_of(exchange: Exchange, error: BaseException) -> str:
    """Return why a session ended.

    Args:
        exchange: the last exchange of the session.
        error: what ended it.
    """
    failure = exchange.failure
    if failure in {None, Failure.REFUSED} and exchange.status in _NO_PATH:
        return _NO_ENDPOINT
    if failure is None:
        # The server answered, but not with what the protocol requires.
        return _TIMED_OUT if isinstance(error, TimeoutError) else _PROTOCOL
    return _of_cause(exchange.cause) or _OF_FAILURE[failure]


def _of_cause(error: BaseException | None) -> str | None:
    if isinstance(error, CredentialsError):
        return error.kind
    if isinstance(error, httpcore2.ProxyError):
        return _PROXY
    if isinstance(error, httpcore2.TimeoutException):
        return _TIMED_OUT
    return failure_of(_chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
