"""The protocol of OpenAI's clients: chat completions, responses and models."""

from agent_service.compat.openai.chat_routes import router

__all__ = ["router"]
