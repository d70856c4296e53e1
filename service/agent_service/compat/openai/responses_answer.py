"""Responses, and their events. Pure."""

import json
import time
from collections.abc import Mapping
from typing import Any

from agent_service.agent.messages import Usage
from agent_service.agent.tools import Piece
from agent_service.chat.dialogue import Reply
from agent_service.compat.error_forms import openai_type
from agent_service.compat.openai.extension import of_reply
from agent_service.compat.openai.output import Event, Output

_INCOMPLETE = {
    "max_tokens": "max_output_tokens",
    "model_context_window_exceeded": "max_output_tokens",
    "refusal": "content_filter",
}


class ResponseForm:
    """One response: as a whole, or as its events."""

    heartbeat = b": waiting for the model\n\n"

    def __init__(self, response_id: str, model: str, output: Output, more: Mapping[str, Any]) -> None:
        """Begin a response.

        Args:
            response_id: its id.
            model: name of the agent.
            output: takes its items.
            more: further fields of the response.
        """
        self._output = output
        self._number = 0
        self._response: dict[str, Any] = {
            "id": response_id,
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "background": False,
            "completed_at": None,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "max_output_tokens": None,
            "metadata": {},
            "model": model,
            "output": [],
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "temperature": None,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": None,
            "truncation": "disabled",
            "usage": None,
            **more,
        }

    def start(self) -> bytes:
        """Return the events that begin the response."""
        return self._events(
            {"type": "response.created", "response": self._response},
            {"type": "response.in_progress", "response": self._response},
        )

    def piece(self, piece: Piece) -> bytes:
        """Return the events of a piece."""
        return self._events(*self._output.add(piece))

    def end(self, reply: Reply) -> bytes:
        """Return the events of the end, the last with the whole response."""
        events = self._finish(reply)
        return self._events(*events, {"type": f"response.{self._response['status']}", "response": self._response})

    def error(self, message: str, status: int) -> bytes:
        """Return the event of a response that failed."""
        kind, code = openai_type(status)
        self._response |= {
            "status": "failed",
            "error": {"code": code or kind, "message": message},
            "output": self._output.items,
        }
        return self._events({"type": "response.failed", "response": self._response})

    async def note(self, piece: Piece) -> None:
        """Take a piece of a response that is not streamed."""
        self._output.add(piece)

    def whole(self, reply: Reply) -> dict[str, Any]:
        """Return the whole response."""
        self._finish(reply)
        return self._response

    def _finish(self, reply: Reply) -> list[Event]:
        reason = _INCOMPLETE.get(reply.usage.stop_reason or "")
        status = "completed" if reason is None else "incomplete"
        events = self._output.end(reply, status)
        self._response |= {
            "status": status,
            "completed_at": int(time.time()) if reason is None else None,
            "incomplete_details": None if reason is None else {"reason": reason},
            "output": self._output.items,
            "usage": _usage(reply.usage),
            **of_reply(reply, streamed=True),
        }
        return events

    def _events(self, *events: Event) -> bytes:
        written = []
        for event in events:
            data = json.dumps({**event, "sequence_number": self._number}, separators=(",", ":"))
            written.append(f"event: {event['type']}\ndata: {data}\n\n")
            self._number += 1
        return "".join(written).encode("ascii")


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total,
    }
