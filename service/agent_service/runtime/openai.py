"""The protocol `openai`: Chat Completions, as many servers of agents speak it."""

from collections.abc import AsyncGenerator
from typing import Any

import orjson

from agent_service.agent.messages import Prompt, Usage
from agent_service.agent.tools import Piece
from agent_service.agent.turns import Turn
from agent_service.runtime import answers, errors, headers
from agent_service.runtime.connection import Connection
from agent_service.runtime.health import check_path

PATH = "/v1/chat/completions"
HEALTH_PATH = "/health"

_HEADERS = {"Accept": "text/event-stream, application/json"}

_DONE = b"[DONE]"

# Finish reasons of Chat Completions, and the stop reasons that our answers have. Any other is a complete answer.
_STOP_REASONS = {"length": "max_tokens", "content_filter": "refusal"}


class OpenAi:
    """Calls the runtime as if it were a model, with the conversation's history."""

    def __init__(self, connection: Connection, *, path: str | None, health_path: str | None, model: str) -> None:
        """Set up the protocol. `model` is the name in each request."""
        self._connection = connection
        self._path = path or PATH
        self._health_path = health_path or HEALTH_PATH
        self._model = model

    def answer(self, prompt: Prompt, turn: Turn) -> AsyncGenerator[Piece]:
        """Yield the answer piece by piece as it arrives."""
        return answers.call(
            self._connection,
            self._path,
            headers={**headers.of_turn(turn), **_HEADERS},
            content=orjson.dumps(self._question(prompt)),
            reader_of=lambda media_type: _reader(media_type, turn.usage),
        )

    async def check(self) -> str:
        """Return that the runtime answers."""
        return await check_path(self._connection, self._health_path)

    async def close(self) -> None:
        """Close all connections."""
        await self._connection.close()

    def _question(self, prompt: Prompt) -> dict[str, Any]:
        system = [{"role": "system", "content": prompt.system}] if prompt.system else []
        return {
            "model": self._model,
            "messages": [*system, *prompt.messages()],
            "stream": True,
            "stream_options": {"include_usage": True},
        }


def _reader(media_type: str, usage: Usage) -> answers.Reader:
    if media_type == answers.EVENTS:
        return _Chunks(usage)
    if answers.is_json(media_type):
        return _Completion(usage)
    return answers.Unknown(media_type)


class _Completion(answers.Whole):
    """Reads a completion that is not streamed."""

    def __init__(self, usage: Usage) -> None:
        super().__init__()
        self._usage = usage

    def _text(self, value: Any) -> str:
        if not isinstance(value, dict):
            raise errors.unreadable("is not a chat completion")
        _raise_error(value)
        choice = _choice(value)
        message = choice.get("message") if choice is not None else None
        if choice is None or not isinstance(message, dict):
            raise errors.unreadable("is not a chat completion")
        _note_finish(choice, self._usage)
        return _content(message)


class _Chunks(answers.Events):
    """Reads the chunks of a completion. Counts of tokens are skipped: the gateway counts the calls of the model."""

    def __init__(self, usage: Usage) -> None:
        super().__init__()
        self._usage = usage
        self._known = False
        self._finished = False

    def _event(self, name: bytes, data: bytes) -> str:
        data = data.strip()
        if data == _DONE:
            self.ended = self._known
            return ""
        try:
            value = answers.loads(data)
        except ValueError as error:
            raise errors.unreadable("has an event that is not JSON", upstream=str(error)) from error
        if not isinstance(value, dict):
            raise errors.unreadable("has an event that is not a chunk of a chat completion")
        if name == b"error":
            raise errors.reported(upstream=_message(value.get("error", value)))
        _raise_error(value)
        choice = _choice(value)
        if choice is None:
            return ""  # the counts of tokens, or an extension of the server
        self._known = True
        self._finished = _note_finish(choice, self._usage) or self._finished
        delta = choice.get("delta")
        return _content(delta) if isinstance(delta, dict) else ""

    def _check_end(self) -> None:
        if not self._known:
            raise errors.unreadable("has no chunks of a chat completion")
        if not self._finished:
            raise errors.broke_off(upstream="the stream ended without [DONE] and without a finish_reason")


def _choice(value: dict[str, Any]) -> dict[str, Any] | None:
    choices = value.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else None


def _content(message: dict[str, Any]) -> str:
    """Return the text of a message or a delta: a string, or parts with text."""
    content = message.get("content")
    if isinstance(content, list):
        texts = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""


def _note_finish(choice: dict[str, Any], usage: Usage) -> bool:
    """Record why the answer has ended; return whether it has."""
    reason = choice.get("finish_reason")
    if not isinstance(reason, str):
        return False
    usage.stop_reason = _STOP_REASONS.get(reason, "end_turn")
    return True


def _raise_error(value: dict[str, Any]) -> None:
    if value.get("error"):
        raise errors.reported(upstream=_message(value["error"]))


def _message(error: object) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else "no text"
