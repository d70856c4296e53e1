"""Text and usage of one answer, collected from the events of the Messages API. Pure.

Gateways between the agent and the model API omit fields and add events of their own. Unknown data is skipped; missing
counts are left for an estimate (`agent/turn.py`). A stream is hostile input, so every part of it is bounded.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from agent_service.agent.claude import errors
from agent_service.agent.claude.blocks import Blocks
from agent_service.agent.claude.counts import count
from agent_service.agent.claude.events import DONE, Decoder, Event
from agent_service.agent.errors import ModelDeclinedError, ModelFailedError
from agent_service.agent.messages import Usage
from agent_service.network.event_stream import LONGEST_EVENT_BYTES, EventTooLargeError

# The longest tokens, runs of white space, have about 128 characters; most have four. Twice the longest is enough.
_MOST_CHARACTERS_PER_TOKEN = 256
_LEAST_CHARACTERS = 2**16

# An event has at least one token, and takes 100 to 200 bytes besides its text. `_MOST_OTHER_BYTES` is for data without
# tokens: signatures, and minutes of pings and comments.
_MOST_BYTES_PER_TOKEN = 1024
_MOST_OTHER_BYTES = 2**22

# The results of the model API's own tools, such as pages that it has fetched, are events of a single piece.
_LONGEST_TOOL_EVENT_BYTES = 2**23
_MOST_TOOL_BYTES = 2**25

# Matches existing and possible future stop reasons. Anything else would put the model API's text into our responses.
_REASON = re.compile(r"[a-z][a-z_]{0,63}")

_MEDIA_TYPE = re.compile(r"[a-z]{1,20}/[a-z0-9.+-]{1,40}")
_EVENT_STREAM = "text/event-stream"


class Answer:
    """Takes the bytes of one answer, yields its text, and records its usage.

    `ended` is whether the answer is complete, so that any further data can be ignored.
    """

    def __init__(self, usage: Usage, *, max_tokens: int, media_type: str, blocks: Blocks | None = None) -> None:
        """Start an answer.

        Args:
            usage: takes the counts and the stop reason.
            max_tokens: limit of the answer in tokens.
            media_type: its `Content-Type` without parameters.
            blocks: takes every event; None if only the text matters.
        """
        self.ended = False
        self._blocks = blocks
        self._usage = usage
        self._media_type = media_type
        self._decoder = Decoder(LONGEST_EVENT_BYTES if blocks is None else _LONGEST_TOOL_EVENT_BYTES)
        self._any = False
        self._characters_left = max(_LEAST_CHARACTERS, max_tokens * _MOST_CHARACTERS_PER_TOKEN)
        self._bytes_left = _MOST_OTHER_BYTES if blocks is None else _MOST_TOOL_BYTES
        self._bytes_left += max_tokens * _MOST_BYTES_PER_TOKEN

    def feed(self, chunk: bytes) -> Iterator[str]:
        """Yield the text in `chunk`, joined where no other event comes in between.

        Raises:
            ModelError: the model API reports an error, the model declined, or the answer exceeds its bounds.
            ValueError: the answer cannot be parsed.
        """
        self._bytes_left -= len(chunk)
        if self._bytes_left < 0:
            raise self._unbounded()
        text = ""
        try:
            for event in self._decoder.feed(chunk):
                if self._blocks is not None:
                    self._blocks.note(event)
                piece = _text(event)
                if piece:
                    self._characters_left -= len(piece)
                    if self._characters_left < 0:
                        raise self._unbounded()
                    text += piece
                    continue
                if text:
                    # This event may raise an error, so the text before it is yielded first.
                    yield text
                    text = ""
                self._note(event)
                if self.ended:
                    return
        except EventTooLargeError as error:
            raise self._unbounded() from error
        if text:
            yield text

    def finish(self) -> Iterator[str]:
        """Yield the rest of the text when the stream has ended; raise ModelFailedError if the answer is incomplete."""
        # An event that was cut off is not valid JSON.
        with suppress(ValueError):
            # Some streams lack the empty line after the last event.
            yield from self.feed(b"\n\n")
        # The stop reason follows all text. Events that are missing after it carry none.
        if not self.ended and self._usage.stop_reason is None:
            raise self._no_events() or ModelFailedError("The model API ended its answer early.", kind="ended_early")

    def _note(self, event: Event) -> None:
        kind = event["type"]
        if kind == "message_start":
            count(self._usage, _object(event.get("message")).get("usage"))
        elif kind == "message_delta":
            self._usage.output_known |= count(self._usage, event.get("usage"))
            reason = _object(event.get("delta")).get("stop_reason")
            if isinstance(reason, str) and _REASON.fullmatch(reason):
                self._usage.stop_reason = reason
            if reason == "refusal":
                raise ModelDeclinedError("The model declined to answer this message.")
        elif kind == "error" or (not kind and "error" in event):
            raise errors.of_event(event)
        elif kind == "message_stop":
            self.ended = True
        elif kind == DONE:
            self.ended = self._usage.stop_reason is not None
        self._any = self._any or kind != DONE

    def _no_events(self) -> ModelFailedError | None:
        if self._any or self._media_type == _EVENT_STREAM:
            return None
        return not_events(self._media_type)

    def _unbounded(self) -> ModelFailedError:
        return self._no_events() or ModelFailedError(
            "The model API sent more data than an answer of MAX_TOKENS can contain.", kind="too_large"
        )


def not_events(media_type: str) -> ModelFailedError:
    """Return the error for a successful response with a `Content-Type` that the model API never uses."""
    shown = media_type if _MEDIA_TYPE.fullmatch(media_type) else "another type"
    return ModelFailedError(
        f"The address of the model API (ANTHROPIC_BASE_URL) answered with {shown}, not with {_EVENT_STREAM}.",
        kind="wrong_content_type",
    )


def _text(event: Event) -> str:
    """Return the text of an event. Blocks of other types, such as thinking, have no text."""
    kind = event["type"]
    if kind == "content_block_delta":
        part, type_of_text = _object(event.get("delta")), "text_delta"
    elif kind == "content_block_start":
        part, type_of_text = _object(event.get("content_block")), "text"
    else:
        return ""
    if part.get("type") != type_of_text:
        return ""
    text = part.get("text")
    if text is None:
        return ""
    if isinstance(text, str):
        return text
    raise ValueError("The text of an event is not a string.")


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
