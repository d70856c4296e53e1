"""The protocol `invocations`: one POST for each turn, as the runtimes of Amazon Bedrock AgentCore take it.

An agent written with the SDK `bedrock-agentcore` runs unchanged. It answers with whatever its function returns, as
JSON, or with an event for each value that its generator yields; so many forms are accepted.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import orjson
import structlog

from agent_service.agent.messages import Prompt
from agent_service.agent.tools import Piece
from agent_service.agent.turns import Turn
from agent_service.runtime import answers, errors, headers, tool_events
from agent_service.runtime.connection import Connection
from agent_service.runtime.health import check_path

_log = structlog.get_logger(__name__)

PATH = "/invocations"
HEALTH_PATH = "/ping"

_HEADERS = {"Accept": "text/event-stream, application/json, text/plain"}

# The fields of an object that may hold the text, by precedence. Strands' results and messages nest several.
_TEXT_FIELDS = ("response", "result", "output", "message", "content", "text")
_DEEPEST = 8

# The types of events. Any other is skipped.
_TYPES = frozenset({"text", "tool_use", "tool_result", "done", "error"})

# The fields that hold the text of an event without a type.
_PIECES = ("data", "response", "output", "text")


class Invocations:
    """Calls the runtime at one path, and takes JSON, text, or server-sent events."""

    def __init__(self, connection: Connection, *, path: str | None, health_path: str | None) -> None:
        self._connection = connection
        self._path = path or PATH
        self._health_path = health_path or HEALTH_PATH

    def answer(self, prompt: Prompt, turn: Turn) -> AsyncGenerator[Piece]:
        """Yield the answer piece by piece as it arrives."""
        session = headers.session_id(prompt, turn)
        return answers.call(
            self._connection,
            self._path,
            headers={**headers.of_turn(turn), **_HEADERS, headers.SESSION: session},
            content=orjson.dumps(_question(prompt, turn, session)),
            reader_of=_reader,
        )

    async def check(self) -> str:
        """Return whether the runtime is idle or busy."""
        return await check_path(self._connection, self._health_path)

    async def close(self) -> None:
        """Close all connections."""
        await self._connection.close()


def _question(prompt: Prompt, turn: Turn, session: str) -> dict[str, Any]:
    return {
        "prompt": prompt.message,
        "messages": prompt.messages(),
        "session_id": session,
        "system": prompt.system,
        "metadata": {
            "client": prompt.client,
            "conversation_id": prompt.conversation_id,
            "request_id": turn.request_id,
            "deadline": headers.deadline(turn),
        },
    }


def _reader(media_type: str) -> answers.Reader:
    if media_type == answers.EVENTS:
        return _Events()
    if answers.is_json(media_type):
        return _Whole()
    if media_type == "text/plain":
        return answers.Plain()
    return answers.Unknown(media_type)


class _Whole(answers.Whole):
    def _text(self, value: Any) -> str:
        if isinstance(value, dict):
            _raise_error(value)
        text = text_of(value)
        if text is None:
            raise errors.unreadable("has no text: return a string, or an object with `response`")
        return text


class _Events(answers.Events):
    """Reads events that are strings or objects. An event of another form is skipped."""

    def __init__(self) -> None:
        super().__init__()
        self._known = False
        self._texts = False
        self._result = ""
        # Strands yields each piece of text twice: as the model's own event, and as `data`.
        self._of_model = False
        self._tools_left = answers.LARGEST_BYTES

    def finish(self) -> str | Sequence[Piece]:
        """Return the rest; the text of the event with the result if no other had any."""
        rest = super().finish()
        if self._texts:
            return rest
        return self._result if isinstance(rest, str) else [*rest, self._result]

    def _event(self, name: bytes, data: bytes) -> Piece:
        try:
            value = answers.loads(data)
        except ValueError:
            return self._skip("is not JSON")
        piece = self._value(name.decode("ascii", "replace"), value)
        if piece is None:
            return self._skip("has no known form")
        self._known = True
        if isinstance(piece, str):
            self._texts = self._texts or bool(piece)
            return piece
        self._tools_left -= len(data)
        return piece if self._tools_left >= 0 else self._skip("exceeds the limit of tool calls")

    def _value(self, name: str, value: Any) -> Piece | None:
        """Return the text or tool call of the value in an event; None if its form is unknown."""
        if isinstance(value, str):
            if name in _TYPES:
                return self._typed(name, {"content": value})
            return "" if self._of_model else value
        if not isinstance(value, dict):
            return None
        kind = value.get("type", name if name in _TYPES else None)
        if kind in _TYPES:
            return self._typed(kind, value)
        _raise_error(value)
        # An unknown type may be a thought, which is no answer.
        return None if kind is not None else self._untyped(value)

    def _typed(self, kind: str, value: dict[str, Any]) -> Piece:
        if kind == "error":
            raise errors.reported(upstream=_excerpt(value))
        if kind == "done":
            self.ended = True
        if kind in {"tool_use", "tool_result"}:
            return tool_events.tool_piece(kind, value) or self._skip("is not a valid tool call")
        if kind != "text":
            return ""
        return next((text for field in ("content", "text", "data") if (text := text_of(value.get(field)))), "")

    def _untyped(self, value: dict[str, Any]) -> str | None:
        delta = _delta(value)
        if delta is not None:
            self._of_model = True
            return delta
        if "result" in value:
            self._result = text_of(value["result"]) or self._result
            return ""
        text = next((text for field in _PIECES if isinstance(text := value.get(field), str)), None)
        return "" if text is not None and self._of_model else text

    def _skip(self, reason: str) -> str:
        _log.debug("Event of the runtime was skipped", reason=reason)
        return ""

    def _check_end(self) -> None:
        if not self._known:
            raise errors.unreadable("has no events of a known form")


def text_of(value: object, depth: int = 0) -> str | None:
    """Return the text of a JSON value: a string, a list of them, or an object that holds one; None if it has none."""
    if isinstance(value, str):
        return value
    if depth > _DEEPEST:
        return None
    if isinstance(value, list):
        texts = [text for each in value if (text := text_of(each, depth + 1)) is not None]
        return "".join(texts) if texts else None
    if isinstance(value, dict):
        found = (text_of(value[field], depth + 1) for field in _TEXT_FIELDS if field in value)
        return next((text for text in found if text is not None), None)
    return None


def _delta(value: dict[str, Any]) -> str | None:
    """Return the text of an event of Bedrock's Converse API, as Strands passes it on; None for any other object."""
    event = value.get("event")
    if not isinstance(event, dict):
        return None
    block = event.get("contentBlockDelta")
    delta = block.get("delta") if isinstance(block, dict) else None
    text = delta.get("text") if isinstance(delta, dict) else None
    return text if isinstance(text, str) else None


def _raise_error(value: dict[str, Any]) -> None:
    """Raise the error that an object reports, as the SDK of AgentCore writes it."""
    if value.get("error") and not any(field in value for field in ("response", "result", "output")):
        raise errors.reported(upstream=_excerpt(value))


def _excerpt(value: dict[str, Any]) -> str:
    """Return the part of an error that is for the log."""
    parts = (value.get(field) for field in ("error_type", "error", "message", "content"))
    return ": ".join(part for part in parts if isinstance(part, str)) or "no text"
