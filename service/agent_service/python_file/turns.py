"""The turn of a request: the body and headers of the protocol `invocations`, as the file's function receives them."""

import os
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import structlog

from agent_service.agent.messages import sendable
from portside import Message, Turn
from portside.models import Models

# Headers of the request that attribute a call of the model to the turn.
_ATTRIBUTION = ("baggage", "traceparent", "tracestate")
_SESSION = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"
_LONGEST_ID = 256


class RequestError(Exception):
    """The request is not one of the protocol. The message is for the caller."""


def read(body: bytes, headers: Mapping[str, str], models: Models) -> Turn:
    """Return the turn that a request asks for.

    Raises:
        RequestError: if the body has another form.
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise RequestError("The body is not JSON.") from None
    if not isinstance(content, dict) or not isinstance(content.get("prompt"), str):
        raise RequestError('The body must be a JSON object with a text "prompt".')
    request_id = headers.get("X-Request-ID", "")[:_LONGEST_ID] or uuid.uuid4().hex
    attribution = {name: headers[name] for name in _ATTRIBUTION if headers.get(name)}
    metadata = content.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    # Portside sends a session id outside of conversations too, because AgentCore requires one.
    session_id = _text(content.get("session_id")) or headers.get(_SESSION)
    conversation_id = _text(metadata["conversation_id"]) if "conversation_id" in metadata else session_id
    turn = Turn(
        message=sendable(content["prompt"]),
        history=tuple(_history(content.get("messages"), content["prompt"])),
        conversation_id=conversation_id,
        client=_text(metadata.get("client")),
        system_prompt=_text(content.get("system")) or _system_prompt(),
        request_id=request_id,
        headers={**attribution, "X-Request-ID": request_id},
        log=structlog.get_logger("agent").bind(request_id=request_id, conversation_id=conversation_id),
        models=models,
    )
    deadline = _deadline(headers.get("X-Portside-Deadline", ""))
    return turn if deadline is None else replace(turn, deadline=deadline)


def _history(messages: Any, prompt: str) -> Iterable[Message]:
    """Return the earlier messages. `messages` may end with the current one."""
    found = []
    for each in messages if isinstance(messages, list) else ():
        if not isinstance(each, dict) or each.get("role") not in {"user", "assistant"}:
            raise RequestError('Each of "messages" must have the role "user" or "assistant".')
        found.append(Message(each["role"], sendable(_content(each.get("content")))))
    if found and found[-1] == Message("user", sendable(prompt)):
        found.pop()
    return found


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else ()
    return "".join(_text(block.get("text")) or "" for block in blocks if isinstance(block, dict))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _deadline(value: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _system_prompt() -> str | None:
    """Return the agent's own system prompt, which the file PORTSIDE_SYSTEM_PROMPT_FILE contains."""
    name = os.environ.get("PORTSIDE_SYSTEM_PROMPT_FILE")
    if not name:
        return None
    try:
        return Path(name).read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
