"""`POST /v1/chat/completions`.

It is not in the OpenAPI document: its form is OpenAI's, whose own documentation and clients apply.
"""

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from agent_service.compat import asking
from agent_service.compat.asking import stream, whole
from agent_service.compat.openai.answering import answered
from agent_service.compat.openai.chat_answer import ChatForm, completion
from agent_service.compat.openai.chat_request import read_chat_request
from agent_service.compat.openai.fields import read_body
from agent_service.components import Components
from agent_service.routes.chat import ignore
from agent_service.routes.dependencies import ComponentsDep

router = APIRouter(include_in_schema=False)


@router.post("/v1/chat/completions")
async def chat_completions(request: Request, components: ComponentsDep) -> Response:
    """Answer a chat, as one completion or as chunks."""
    return await answered(_completion(request, components))


async def _completion(request: Request, components: Components) -> Response:
    settings = components.settings
    asked = read_chat_request(read_body(await request.body()), takes_tools=settings.api_client_tools)
    question = asking.question(request, components, asked.message, asked.details)
    turn = asking.turn(request, components, question, asked.paused, streamed=asked.stream)
    if asked.stream:
        tools = [tool["name"] for tool in asked.details.tools]
        form = ChatForm(settings.agent_name, include_usage=asked.include_usage, client_tools=tools)
        return stream(components, turn, form)
    reply = await whole(request, turn, ignore)
    return JSONResponse(completion(reply, settings.agent_name))
