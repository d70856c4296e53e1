"""A pydantic-ai agent, served as an OpenAI-compatible endpoint by a few lines of Starlette."""

import json
import os

import uvicorn
from pydantic_ai import Agent
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

agent = Agent(f"anthropic:{os.environ['ANTHROPIC_MODEL']}", instructions="Answer briefly.")


async def completions(request):
    body = await request.json()

    async def events():
        async with agent.run_stream(body["messages"][-1]["content"]) as result:
            async for text in result.stream_text(delta=True):
                yield f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': text}}]})}\n\n"
        yield f"data: {json.dumps({'choices': [{'index': 0, 'delta': {}, 'finish_reason': 'stop'}]})}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


async def health(_):
    return JSONResponse({"ok": True})


app = Starlette(routes=[Route("/v1/chat/completions", completions, methods=["POST"]), Route("/health", health)])

if __name__ == "__main__":
    uvicorn.run(app, host="0.0.0.0", port=int(os.environ["PORT"]))
