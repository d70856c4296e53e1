"""Turns for OpenAI's clients. To them, a model that declines is no error, but the end of an answer."""

from collections.abc import Awaitable, Callable

from fastapi import Request
from starlette.responses import JSONResponse, Response

from agent_service.agent.errors import ModelDeclinedError, PromptTooLongError
from agent_service.agent.messages import Usage
from agent_service.agent.turn import OnPiece
from agent_service.chat.dialogue import Reply
from agent_service.compat.openai.errors import InvalidRequestError
from agent_service.components import Components
from agent_service.routes.disconnect import CLIENT_CLOSED_REQUEST, ClientGoneError, WhileConnected
from agent_service.routes.sse import EventStream, StreamForm

Turn = Callable[[OnPiece], Awaitable[Reply]]
"""Asks the dialogue, and passes on the pieces of the answer."""


async def answered(answer: Awaitable[Response]) -> Response:
    """Return an answer, or an error in the request in the form of OpenAI's API."""
    try:
        return await answer
    except InvalidRequestError as error:
        return JSONResponse(error.body(), status_code=error.status)
    except PromptTooLongError as error:
        refused = InvalidRequestError(str(error), code="context_length_exceeded")
        return JSONResponse(refused.body(), status_code=refused.status)
    except ClientGoneError:
        return Response(status_code=CLIENT_CLOSED_REQUEST)


async def whole(request: Request, turn: Turn, on_piece: OnPiece) -> Reply:
    """Return the complete answer.

    Raises:
        ModelError: when the answer is missing or incomplete.
        ClientGoneError: when the client disconnected.
    """
    async with WhileConnected(request.receive):
        return await _unless_declined(turn, on_piece)


def stream(components: Components, turn: Turn, form: StreamForm) -> Response:
    """Return the answer as events."""
    return EventStream(
        lambda on_piece: _unless_declined(turn, on_piece),
        form,
        metrics=components.metrics,
        heartbeat_seconds=components.settings.stream_heartbeat_seconds,
    )


async def _unless_declined(turn: Turn, on_piece: OnPiece) -> Reply:
    try:
        return await turn(on_piece)
    except ModelDeclinedError:
        return Reply("", Usage(stop_reason="refusal"), "")
