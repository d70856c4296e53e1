"""Responses, and their events. Pure."""

import json
import time
from collections.abc import Mapping
from typing import Any

from agent_service.agent.messages import Usage
from agent_service.agent.tools import Piece
from agent_service.chat.dialogue import Reply
from agent_service.compat.error_forms import openai_type
from agent_service.compat.openai.extension import FIELD, of_reply
from agent_service.compat.openai.output import Event, Output

_INCOMPLETE = {
    "max_tokens": "max_output_tokens",
    "model_context_window_exceeded": "max_output_tokens",
    "refusal": "content_filter",
}


class ResponseForm:
    """One response: as a whole, or as its events."""

    heartbeat = b": waiting for the model\n\n"

    def __init__(
        self, response_id: str, model: str, output: Output, more: Mapping[str, Any], *, after: int = -1
    ) -> None:
        """Begin a response, which is then in `response`.

        Args:
            response_id: its id.
            model: name of the agent.
            output: takes its items.
            more: further fields of the response.
            after: number of the last event that the client has; later ones are sent.
        """
        self.output = output
        self._after = after
        self._finished: float | None = None
        self._number = 0
        self.response: dict[str, Any] = {
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

    def number_from(self, number: int) -> None:
        """Continue to number the events from here."""
        self._number = number

    def set_times(self, created: float, finished: float | None) -> None:
        """Set when the response began, and when it ended if it has; in seconds since 1970."""
        self.response["created_at"] = int(created)
        self._finished = finished

    def resumed(self, event: Mapping[str, Any]) -> bytes:
        """Return the event of a response that another process goes on with."""
        return self._events({"type": "response.in_progress", "response": self.response, FIELD: event})

    def restart(self, text: str) -> bytes:
        """Return the events of a text that replaces all text before it."""
        return self._events(*self.output.restart(text))

    def start(self) -> bytes:
        """Return the events that begin the response."""
        return self._events(
            {"type": "response.created", "response": self.response},
            {"type": "response.in_progress", "response": self.response},
        )

    def piece(self, piece: Piece) -> bytes:
        """Return the events of a piece."""
        return self._events(*self.output.add(piece))

    def end(self, reply: Reply) -> bytes:
        """Return the events of the end, the last with the whole response."""
        events = self._finish(reply)
        return self._events(*events, {"type": f"response.{self.response['status']}", "response": self.response})

    def error(self, message: str, status: int) -> bytes:
        """Return the event of a response that failed."""
        return self.failed(message, status, "failed")

    def failed(self, message: str, status: int, state: str) -> bytes:
        """Return the event of a response that ended in the state `failed` or `cancelled`."""
        self.fail(message, status, state)
        return self._events({"type": "response.failed", "response": self.response})

    def fail(self, message: str, status: int, state: str) -> None:
        """End the response as `failed` does."""
        kind, code = openai_type(status)
        self.response |= {
            "status": state,
            "error": {"code": code or kind, "message": message},
            "output": self.output.valid,
        }

    async def note(self, piece: Piece) -> None:
        """Take a piece of a response that is not streamed."""
        self.output.add(piece)

    def whole(self, reply: Reply) -> dict[str, Any]:
        """Return the whole response."""
        self._finish(reply)
        return self.response

    def _finish(self, reply: Reply) -> list[Event]:
        reason = _INCOMPLETE.get(reply.usage.stop_reason or "")
        status = "completed" if reason is None else "incomplete"
        events = self.output.end(reply, status)
        self.response |= {
            "status": status,
            "completed_at": int(self._finished or time.time()) if reason is None else None,
            "incomplete_details": None if reason is None else {"reason": reason},
            "output": self.output.valid,
            "usage": _usage(reply.usage),
            **of_reply(reply, streamed=True),
        }
        return events

    def _events(self, *events: Event) -> bytes:
        written = []
        for event in events:
            if self._number > self._after:
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
