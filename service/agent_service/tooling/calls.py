"""Calls of tools: their bounds, repetitions where a call certainly did not run, and what the model learns of errors."""

import asyncio
import math
from collections.abc import Mapping
from typing import Any

import mcp_types as types
from mcp.client import Client, InputRequiredRoundsExceededError
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from agent_service.telemetry.redact import printable
from agent_service.tooling.connection import Connection
from agent_service.tooling.exchange import NOT_RUN, Exchange, Failure, current
from agent_service.tooling.outcomes import OUTCOME_OF, SENTENCE_OF
from agent_service.tooling.room import Share
from agent_service.tooling.session import Session

# A server that restarts as a container beside the agent is back within this time.
RECONNECT_SECONDS = 10.0
# Until the transport ends a request whose call has ended: the SDK informs the server first.
_SLACK_SECONDS = 1.0
_LONGEST_MESSAGE = 2000

# New sessions for one call. A server that ends each of them has another problem than a restart.
_MOST_SESSIONS = 2
_FIRST_WAIT_SECONDS = 0.1
_LAST_WAIT_SECONDS = 1.0
_MAY_HAVE_RUN = "The call may have run: its effects, if any, remain. Check before you repeat it."
_DID_NOT_RUN = "The call did not run."
# A task is stored until a worker takes it, and credentials of callers are never stored.
_NO_CALLER = (
    "This tool is called with the user's own credential, and this request has none. A background task never has one, "
    "because credentials are not stored: the user can send the message to the chat instead."
)

# Texts of the SDK for outcomes that it finds itself.
_CLOSED = "Connection closed"
_STREAM_FAILED = "SSE stream failed"


class CallFailedError(Exception):
    """A call has no result. The message is for the model; `detail` is for the log."""

    def __init__(self, message: str, outcome: str, detail: str | None = None) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.detail = detail


async def call(
    connection: Connection,
    tool: str,
    arguments: Mapping[str, Any],
    *,
    deadline: float,
    caller_token: str | None,
    share: Share,
) -> types.CallToolResult:
    """Call a tool, and return its result, which may be an error of the tool.

    A call that certainly did not run, because the server restarted, is repeated on a new connection.

    Args:
        connection: the connection to the server.
        tool: the server's own name of the tool.
        arguments: the input.
        deadline: a time of the event loop.
        caller_token: the caller's own credential, for a server that it is forwarded to.
        share: counts what the call holds in memory.

    Raises:
        CallFailedError: if there is no result; the message explains whether the call may have run.
    """
    if connection.credentials.forwards and caller_token is None:
        raise CallFailedError(
            f"{_NO_CALLER} {_DID_NOT_RUN}",
            "unauthorized",
        )
    token = caller_token if connection.credentials.forwards else None
    loop = asyncio.get_running_loop()
    give_up = min(deadline, loop.time() + RECONNECT_SECONDS)
    sessions_left, delay = _MOST_SESSIONS, _FIRST_WAIT_SECONDS
    while True:
        session = await connection.session(give_up)
        most_bytes = 0 if session is None else session.largest_answer_bytes
        exchange = Exchange(deadline + _SLACK_SECONDS, most_bytes, token, share)
        if session is None:
            exchange.fail(Failure.UNREACHABLE, connection.kind)
            break
        with session.calling() as client:
            if token is not None and session.is_bound:
                result = await _send_alone(session, tool, arguments, exchange)
            else:
                result = await _send(client, tool, arguments, exchange)
        if result is not None:
            return result
        if exchange.failure is Failure.SESSION_LOST and sessions_left:
            sessions_left -= 1
            connection.lost(session)
        elif exchange.failure is Failure.UNREACHABLE:
            session.check()
        else:
            break
        if loop.time() + delay >= give_up:
            break
        await asyncio.sleep(delay)
        delay = min(2 * delay, _LAST_WAIT_SECONDS)
    raise _error(exchange, deadline_passed=loop.time() >= deadline)


async def _send(
    client: Client, tool: str, arguments: Mapping[str, Any], exchange: Exchange
) -> types.CallToolResult | None:
    """Return the result of a call; None if there is none, with the reason in `exchange`."""
    token = current.set(exchange)
    try:
        async with asyncio.timeout_at(None if exchange.deadline is None else exchange.deadline - _SLACK_SECONDS):
            # The session's own limit is that of a list.
            return await client.call_tool(tool, dict(arguments), read_timeout_seconds=math.inf)
    except TimeoutError:
        exchange.fail(Failure.TIMED_OUT)
    except MCPError as error:
        _interpret(error, exchange)
    except (ValidationError, RuntimeError, InputRequiredRoundsExceededError) as error:
        # The text may quote the result.
        exchange.fail(Failure.UNREADABLE, type(error).__name__)
    finally:
        current.reset(token)
        exchange.abort()
    return None


async def _send_alone(
    session: Session, tool: str, arguments: Mapping[str, Any], exchange: Exchange
) -> types.CallToolResult | None:
    """Do what `_send` does in a session of the caller's own: callers must not share the state of one at the server."""
    handshake = Exchange(exchange.deadline, exchange.most_bytes, exchange.caller_token)
    result: types.CallToolResult | None = None
    try:
        async with session.of_caller(handshake) as client:
            result = await _send(client, tool, arguments, exchange)
    except Exception as error:
        # With a result, only the end of the session failed.
        exchange.fail(handshake.failure or Failure.UNREACHABLE, handshake.detail or type(error).__name__)
    return result


def _interpret(error: MCPError, exchange: Exchange) -> None:
    if error.message.startswith(_STREAM_FAILED):
        exchange.failure, exchange.detail = Failure.TOO_LARGE, None
    elif error.message == _CLOSED:
        exchange.fail(Failure.LOST if exchange.sent else Failure.UNREACHABLE, "the connection was closed")
    elif error.code == types.PARSE_ERROR:
        exchange.fail(Failure.UNREADABLE)
    elif exchange.failure is None:
        # The server's own answer.
        exchange.fail(Failure.ANSWERED_WITH_ERROR, error.message)


def _error(exchange: Exchange, *, deadline_passed: bool) -> CallFailedError:
    failure = exchange.failure or Failure.LOST
    if failure is Failure.UNREACHABLE and deadline_passed:
        failure = Failure.TIMED_OUT
    outcome = OUTCOME_OF[failure]
    sentence = SENTENCE_OF[failure].format(status=exchange.status, limit=exchange.most_bytes)
    if failure is Failure.ANSWERED_WITH_ERROR:
        return CallFailedError(f"{sentence} {printable((exchange.detail or '')[:_LONGEST_MESSAGE])}", outcome)
    may_have_run = exchange.sent and failure not in NOT_RUN
    return CallFailedError(f"{sentence} {_MAY_HAVE_RUN if may_have_run else _DID_NOT_RUN}", outcome, exchange.detail)
