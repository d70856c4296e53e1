"""What the tests of OpenAI's protocol share: the official SDK in front of a service, and content for messages."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai

NAME = "agent"

# One pixel.
PNG = base64.b64encode(
    base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
).decode()

IMAGE = {"type": "base64", "media_type": "image/png", "data": PNG}
"""The source of the picture in the form of the Messages API."""

WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
"""The schema of a tool of a client."""


@contextmanager
def official(url: str, key: str = "none") -> Iterator[openai.OpenAI]:
    """Yield the official SDK for a service. It does not retry, so that each call is one request."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=30) as client:
        yield client


def user(content: Any) -> Any:
    """Return a message of the user."""
    return {"role": "user", "content": content}


def assistant(content: Any, **more: Any) -> Any:
    """Return a message of the assistant."""
    return {"role": "assistant", "content": content, **more}
