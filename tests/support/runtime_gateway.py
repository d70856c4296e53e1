"""The gateway for a runtime, in the test's own process, and the official SDKs as the runtime."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx
import openai

from agent_service.components import Components

MODEL = "claude-sonnet-5-5"
OTHER_MODEL = "claude-opus-5"

# What the operator sets for the runtime, so that the SDKs start.
PLACEHOLDER = "portside-gateway"

SDK_SECONDS = 300.0
"""Limit of a request of the SDKs, with the connection. Their own for that is 5 s, in which a busy machine may give no
time to a gateway in the test's own process."""


@dataclass(frozen=True, slots=True)
class RuntimeGateway:
    """A running gateway."""

    components: Components
    http: httpx.AsyncClient
    anthropic: anthropic.AsyncAnthropic
    openai: openai.AsyncOpenAI

    @property
    def url(self) -> str:
        return str(self.http.base_url).rstrip("/")

    async def say(self, content: str | list[Any], **given: Any) -> str:
        """Return the text of an answer to a message."""
        found: anthropic.types.Message = await self.anthropic.messages.create(**asked(content, **given))
        return "".join(block.text for block in found.content if block.type == "text")

    def sample(self, name: str, **labels: str) -> float:
        """Return the value of a metric; 0 if it has no such sample."""
        return self.components.metrics.registry.get_sample_value(name, labels) or 0.0


def asked(content: str | list[Any], **given: Any) -> dict[str, Any]:
    """Return the body of a call to the Messages API."""
    return {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": content}], **given}


def chat(content: str, **given: Any) -> dict[str, Any]:
    """Return the body of a chat completion."""
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], **given}


MakeGateway = Callable[..., Awaitable[RuntimeGateway]]
