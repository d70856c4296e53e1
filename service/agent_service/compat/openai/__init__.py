"""The protocol of OpenAI's clients: chat completions, responses and models."""

from fastapi import APIRouter

from agent_service.compat.openai import background_routes, chat_routes, responses_routes

router = APIRouter()
for _routes in (background_routes, chat_routes, responses_routes):
    router.include_router(_routes.router)
