"""The protocols in which the client asks: the request for a question, and the text in what is answered. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from agent_service import __version__

# The agent answers in place of any model.
_MODEL = "agent"
# The agent lowers it to its own limit.
_MAX_TOKENS = 128_000
_A2A_VERSION = "1.0"
_MCP_REVISION = "2026-07-28"
_MCP_TOOL = "ask"
_WAITS = "A tool call waits for an approval, and the answer goes on after it"
_FAILED = {"TASK_STATE_FAILED", "TASK_STATE_CANCELED", "TASK_STATE_REJECTED"}


class RefusedError(Exception):
    """The agent answered with an error. The message is the agent's own."""


class BrokenOffError(Exception):
    """The answer did not come to its end, or is none of an agent."""


@dataclass(frozen=True)
class Protocol:
    """How one protocol asks and answers.

    `body` returns the JSON of a request with a message. `pieces` takes the JSON values of the answer, yields its text,
    and returns at the end of the answer; it raises RefusedError and BrokenOffError. `setting` is what enables it.
    """

    path: str
    body: Callable[[str], Mapping[str, Any]]
    pieces: Callable[[Iterable[Any]], Iterator[str]]
    setting: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def reason(answer: Any) -> str:
    """Return why a request was refused, from the error in the form of any of the protocols."""
    match answer:
        case {"detail": str(sentence)} | {"error": {"message": str(sentence)}} | {"error": str(sentence)}:
            return sentence
        case {"detail": [{"msg": str(sentence)}, *_]}:
            return sentence
    return "no reason given"


def _native(message: str) -> Mapping[str, Any]:
    return {"message": message, "stream": True}


def _of_native(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        match value:
            case {"type": "text", "content": str(text)}:
                yield text
            case {"type": "done"}:
                return
            case {"type": "input_required"} | {"status": "input_required"}:
                raise RefusedError(_WAITS)
            case {"type": "error", "message": str(sentence)}:
                raise RefusedError(sentence)
            case {"response": str(text)}:
                yield text
                return
    raise BrokenOffError


def _openai(message: str) -> Mapping[str, Any]:
    return {"model": _MODEL, "messages": [{"role": "user", "content": message}], "stream": True}


def _of_openai(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        match value:
            case "[DONE]":
                return
            case {"error": dict()}:
                raise RefusedError(reason(value))
            case {"choices": [{"delta": {"content": str(text)}}, *_]}:
                yield text
    raise BrokenOffError


def _anthropic(message: str) -> Mapping[str, Any]:
    return {**_openai(message), "max_tokens": _MAX_TOKENS}


def _of_anthropic(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        match value:
            case {"type": "content_block_delta", "delta": {"type": "text_delta", "text": str(text)}}:
                yield text
            case {"type": "message_delta", "delta": {"stop_reason": "pause_turn"}}:
                raise RefusedError(_WAITS)
            case {"type": "message_stop"}:
                return
            case {"type": "error"}:
                raise RefusedError(reason(value))
    raise BrokenOffError


def _a2a(message: str) -> Mapping[str, Any]:
    sent = {"messageId": str(uuid4()), "role": "ROLE_USER", "parts": [{"text": message}]}
    return {"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": {"message": sent}}


def _of_a2a(values: Iterable[Any]) -> Iterator[str]:
    shown = ""
    for value in values:
        match value:
            case {"error": dict()}:
                raise RefusedError(reason(value))
            case {"result": {"artifactUpdate": {"artifact": artifact, **update}}}:
                text = _texts(artifact)
                # A chunk that is not appended replaces those before it (A2A 1.0, `TaskArtifactUpdateEvent`).
                rest = text if update.get("append") else _rest(shown, text)
                shown += rest
                yield rest
            case {"result": {"message": dict(message)}}:
                yield _texts(message)
                return
            case {"result": {"statusUpdate": {"status": {"state": state, **status}}}}:
                if state == "TASK_STATE_COMPLETED":
                    return
                if state == "TASK_STATE_INPUT_REQUIRED":
                    raise RefusedError(_WAITS)
                if state in _FAILED:
                    raise RefusedError(_texts(status.get("message")) or reason(None))
    raise BrokenOffError


def _texts(holder: Any) -> str:
    """Return the text of the parts of a message or an artifact."""
    parts = holder.get("parts", []) if isinstance(holder, dict) else []
    return "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))


def _rest(shown: str, text: str) -> str:
    """Return what to print of a text that replaces the one that was printed: on a new line if it differs."""
    if text.startswith(shown):
        return text[len(shown) :]
    return f"\n{text}"


def _mcp(message: str) -> Mapping[str, Any]:
    meta = {
        "io.modelcontextprotocol/protocolVersion": _MCP_REVISION,
        "io.modelcontextprotocol/clientInfo": {"name": "agent-service", "version": __version__},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": _MCP_TOOL, "arguments": {"message": message}, "_meta": meta}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


def _of_mcp(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        match value:
            case {"error": dict()}:
                raise RefusedError(reason(value))
            case {"result": {"isError": True, "content": [{"text": str(sentence)}, *_]}}:
                raise RefusedError(sentence)
            case {"result": {"structuredContent": {"response": str(text), **rest}}}:
                yield text
                if rest.get("status") == "input_required":
                    raise RefusedError(_WAITS)
                return
    raise BrokenOffError


PROTOCOLS: Mapping[str, Protocol] = {
    "native": Protocol("/chat", _native, _of_native),
    "openai": Protocol("/v1/chat/completions", _openai, _of_openai, "API_OPENAI"),
    "anthropic": Protocol(
        "/v1/messages", _anthropic, _of_anthropic, "API_ANTHROPIC", {"anthropic-version": "2023-06-01"}
    ),
    "a2a": Protocol("/a2a", _a2a, _of_a2a, "API_A2A", {"A2A-Version": _A2A_VERSION}),
    "mcp": Protocol(
        "/mcp",
        _mcp,
        _of_mcp,
        "API_MCP",
        {"MCP-Protocol-Version": _MCP_REVISION, "Mcp-Method": "tools/call", "Mcp-Name": _MCP_TOOL},
    ),
}
"""The protocols, by the values of `agent-service ask --api`."""
