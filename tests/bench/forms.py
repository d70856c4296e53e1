"""The protocols in which the bench asks: paths, bodies and further headers, each for a whole and a streamed answer."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from support.mcp_agent import asked, modern

Body = dict[str, Any]
AsBody = Callable[[str], Body]


@dataclass(frozen=True)
class Form:
    """A protocol. `chat` and `stream` return the body that asks a question, for a whole and a streamed answer."""

    name: str
    chat_path: str
    stream_path: str
    chat: AsBody
    stream: AsBody
    headers: Mapping[str, str] = field(default_factory=dict)


def _own(message: str) -> Body:
    return {"message": message}


def _completion(message: str, **more: Any) -> Body:
    return {"model": "agent", "messages": [{"role": "user", "content": message}], **more}


def _response(message: str, **more: Any) -> Body:
    return {"model": "agent", "input": message, **more}


def _message(message: str, **more: Any) -> Body:
    messages = [{"role": "user", "content": message}]
    return {"model": "claude-sonnet-5-5", "max_tokens": 4096, "messages": messages, "stream": False, **more}


def _a2a(method: str, message: str) -> Body:
    sent = {"role": "ROLE_USER", "messageId": str(uuid.uuid4()), "parts": [{"text": message}]}
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"message": sent}}


def _call(message: str) -> Body:
    return modern(asked(message))[0]


def _reported_call(message: str) -> Body:
    body = _call(message)
    body["params"]["_meta"]["progressToken"] = "bench"
    return body


OWN = Form("/chat", "/chat", "/chat/stream", _own, _own)
"""Our own API."""

ANTHROPIC = Form("Anthropic", "/v1/messages", "/v1/messages", _message, lambda message: _message(message, stream=True))
"""The Messages API, also that of the model."""

FORMS = (
    OWN,
    Form(
        "OpenAI, chat completions",
        "/v1/chat/completions",
        "/v1/chat/completions",
        _completion,
        lambda message: _completion(message, stream=True),
    ),
    Form(
        "OpenAI, responses",
        "/v1/responses",
        "/v1/responses",
        _response,
        lambda message: _response(message, stream=True),
    ),
    ANTHROPIC,
    Form(
        "A2A",
        "/a2a",
        "/a2a",
        lambda message: _a2a("SendMessage", message),
        lambda message: _a2a("SendStreamingMessage", message),
        {"A2A-Version": "1.0"},
    ),
    Form("MCP", "/mcp", "/mcp", _call, _reported_call, modern(asked(""))[1]),
)
"""All protocols of an agent."""
