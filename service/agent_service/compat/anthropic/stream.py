"""An answer of the agent as the events of the Messages API (Claude docs, "Streaming Messages"). Pure."""

from collections.abc import Mapping
from typing import Any

import orjson

from agent_service.agent.claude.written import PING, event, last_events, message, text_delta
from agent_service.agent.messages import sendable
from agent_service.agent.tools import Piece, ToolUse
from agent_service.chat.dialogue import Reply
from agent_service.compat.anthropic.answer import Servers, block, client_call, stop_reason, usage_of
from agent_service.compat.error_forms import anthropic_type
from agent_service.compat.pausing import notice


class MessageForm:
    """Writes one answer; a `StreamForm`."""

    heartbeat = PING

    def __init__(self, model: str, servers: Servers, input_tokens: int) -> None:
        """Begin an answer.

        Args:
            model: the name of the agent.
            servers: where its tools come from.
            input_tokens: estimate for the first event; the last one has the count.
        """
        self._model = model
        self._servers = servers
        self._input_tokens = input_tokens
        self._index = -1
        self._in_text = False
        self._half = ""

    def start(self) -> bytes:
        """Return the event `message_start`."""
        usage = {"input_tokens": self._input_tokens, "output_tokens": 0}
        return event("message_start", message=message(self._model, [], usage, stop_reason=None))

    def piece(self, piece: Piece) -> bytes:
        """Return the events of a piece: a part of a text, or a whole block."""
        if isinstance(piece, str):
            return self._text(piece)
        return self._whole(block(piece, self._servers))

    def end(self, reply: Reply) -> bytes:
        """Return the events of what the reply has besides its pieces, and the last ones."""
        rest = b""
        if reply.waiting:
            rest += self._close() + self._text(notice(reply.waiting))
        for use in reply.calls:
            rest += self._call(use)
        return rest + self._close() + last_events(stop_reason(reply), usage_of(reply.usage))

    def error(self, message: str, status: int) -> bytes:
        """Return the event `error`."""
        return event("error", error={"type": anthropic_type(status), "message": message})

    def _text(self, text: str) -> bytes:
        """Return the events of a text. Half a surrogate pair at its end waits for the other half."""
        text = self._half + text
        self._half = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
        text = text.removesuffix(self._half)
        return self._delta(text) if text else b""

    def _delta(self, text: str) -> bytes:
        begin = b""
        if not self._in_text:
            self._in_text = True
            self._index += 1
            begin = event("content_block_start", index=self._index, content_block={"type": "text", "text": ""})
        return begin + text_delta(self._index, sendable(text))

    def _call(self, use: ToolUse) -> bytes:
        """Return the events of a call that the client makes. Its input is JSON in a delta, as the API sends it."""
        events = self._close()
        self._index += 1
        partial = {"type": "input_json_delta", "partial_json": orjson.dumps(use.input).decode()}
        return (
            events
            + event("content_block_start", index=self._index, content_block={**client_call(use), "input": {}})
            + event("content_block_delta", index=self._index, delta=partial)
            + self._stop()
        )

    def _whole(self, content: Mapping[str, Any]) -> bytes:
        """Return the events of a block that is not a text.

        The `claude` program breaks off a message with a delta of the input of another call than its own.
        """
        events = self._close()
        self._index += 1
        return events + event("content_block_start", index=self._index, content_block=content) + self._stop()

    def _close(self) -> bytes:
        rest = self._delta(self._half) if self._half else b""
        self._half = ""
        if not self._in_text:
            return rest
        self._in_text = False
        return rest + self._stop()

    def _stop(self) -> bytes:
        return event("content_block_stop", index=self._index)
