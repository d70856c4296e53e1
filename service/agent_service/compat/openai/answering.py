"""Answers of OpenAI's API, and its errors in a request."""

from collections.abc import Awaitable

from starlette.responses import JSONResponse, Response

from agent_service.agent.errors import PromptTooLongError
from agent_service.compat.openai.errors import InvalidRequestError
from agent_service.routes.disconnect import CLIENT_CLOSED_REQUEST, ClientGoneError


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
