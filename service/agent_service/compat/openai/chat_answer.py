"""Chat completions and their chunks. Pure.

What OpenAI's API has no field for is in the field `portside`, as in our own API: in a completion, the fields of the
answer of `POST /chat`; in a chunk, the event of `POST /chat/stream`. OpenAI's clients ignore unknown fields.
"""

import json
import time
import uuid
from collections.abc import Collection, Mapping
from typing import Any

from agent_service.agent.messages import BREAK, Usage
from agent_service.agent.tools import Piece, ToolUse
from agent_service.chat.dialogue import Reply
from agent_service.compat.error_forms import openai_type
from agent_service.compat.openai.characters import Characters
from agent_service.compat.openai.errors import error_body
from agent_service.compat.openai.extension import FIELD, of_reply
from agent_service.compat.pausing import notice
from agent_service.routes.sse import of_tool

_DONE = b"data: [DONE]\n\n"

_FINISH = {"max_tokens": "length", "model_context_window_exceeded": "length", "refusal": "content_filter"}

# As json.dumps escapes a text, without the cost of an encoder for each token.
_quoted = json.encoder.encode_basestring_ascii


def completion(reply: Reply, model: str) -> dict[str, Any]:
    """Return the whole answer."""
    text = reply.text + _notice(reply, reply.text)
    message: dict[str, Any] = {"role": "assistant", "content": text or (None if reply.calls else ""), "refusal": None}
    if reply.calls:
        message["tool_calls"] = [_call(call) for call in reply.calls]
    return {
        **_head("chat.completion", model),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _finish_reason(reply)}],
        "usage": usage_of(reply.usage),
        **of_reply(reply),
    }


def usage_of(usage: Usage) -> dict[str, Any]:
    """Return the tokens of an answer."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
    }


class ChatForm:
    """The chunks of one completion."""

    heartbeat = b": waiting for the model\n\n"

    def __init__(self, model: str, *, include_usage: bool, client_tools: Collection[str]) -> None:
        """Begin an answer.

        Args:
            model: name of the agent.
            include_usage: whether the last chunk has the tokens.
            client_tools: names of the client's tools, whose calls are at the end.
        """
        self._include_usage = include_usage
        self._client_tools = frozenset(client_tools)
        self._head = _head("chat.completion.chunk", model)
        if include_usage:
            self._head["usage"] = None
        before, _, after = self._chunk({"content": "\0"}).partition(b'"\\u0000"')
        self._before, self._after = before, after
        self._last_text = ""
        self._characters = Characters()

    def start(self) -> bytes:
        """Return the chunk with the role."""
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def piece(self, piece: Piece) -> bytes:
        """Return the chunk of a text, or of a call of the agent's own tools or its result."""
        if isinstance(piece, str):
            return self._text(self._characters.take(piece))
        if isinstance(piece, ToolUse) and piece.name in self._client_tools:
            return b""
        return self._chunk({}, more={FIELD: of_tool(piece)})

    def end(self, reply: Reply) -> bytes:
        """Return the last chunks: calls of the client's tools, the reason of the end, and the tokens."""
        chunks = [self._text(self._characters.end())]
        if reply.waiting:
            chunks.append(self._chunk({"content": _notice(reply, self._last_text)}))
        if reply.calls:
            calls = [{"index": index, **_call(call)} for index, call in enumerate(reply.calls)]
            chunks.append(self._chunk({"tool_calls": calls}))
        chunks.append(self._chunk({}, finish_reason=_finish_reason(reply), more=of_reply(reply, streamed=True)))
        if self._include_usage:
            chunks.append(_event({**self._head, "choices": [], "usage": usage_of(reply.usage)}))
        return b"".join(chunks) + _DONE

    def error(self, message: str, status: int) -> bytes:
        """Return the error, in the place of a chunk; the SDKs raise it."""
        kind, code = openai_type(status)
        return _event(error_body(message, kind, None, code))

    def _text(self, text: str) -> bytes:
        if not text:
            return b""
        self._last_text = text
        return self._before + _quoted(text).encode("ascii") + self._after

    def _chunk(
        self, delta: dict[str, Any], *, finish_reason: str | None = None, more: Mapping[str, Any] | None = None
    ) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _event({**self._head, "choices": [choice], **(more or {})})


def _head(kind: str, model: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}


def _notice(reply: Reply, text: str) -> str:
    """Return what comes after a text if calls wait for approvals; empty if none does."""
    if not reply.waiting:
        return ""
    return (BREAK if text and not text.endswith("\n") else "") + notice(reply.waiting)


def _finish_reason(reply: Reply) -> str:
    if reply.calls:
        return "tool_calls"
    return _FINISH.get(reply.usage.stop_reason or "", "stop")


def _call(call: ToolUse) -> dict[str, Any]:
    arguments = json.dumps(call.input, ensure_ascii=False, separators=(",", ":"))
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _event(value: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % json.dumps(value, separators=(",", ":")).encode("ascii")
