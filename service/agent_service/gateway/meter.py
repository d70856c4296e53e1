"""Reads the token usage in an answer while its bytes pass. Pure.

Parsing every event would cost more than passing it on, so only those that report usage are parsed. Of all others the
length of the text is added up, for an estimate where the usage is missing because the answer was cut.
"""

import math
import re
from typing import Any

import orjson

from agent_service.agent.claude.counts import count, plausible
from agent_service.agent.messages import CHARACTERS_PER_TOKEN, Usage
from agent_service.gateway.forms import Form

# The pieces of an answer: text, thinking and arguments of tools, in either form.
_PIECES = re.compile(
    rb'"(?:text|thinking|partial_json|content|reasoning_content|arguments)": ?"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL
)
# The texts of a question; the data of images is not text.
_ASKED = re.compile(
    rb'"(?:text|thinking|content|system|description|arguments)": ?"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL
)
_SMALL_BYTES = 2**14

_REPORTED = b'"usage"'
_DATA = b"data:"

# Of an answer that is not streamed, this much is kept to read the usage in it. A line of a stream is shorter.
_MOST_BYTES = 2 * 2**20

# Matches existing and possible future stop reasons; others would put the model API's text into spans.
_REASON = re.compile(r"[a-z][a-z_]{0,63}")


class Meter:
    """Takes the bytes of one answer and records its usage."""

    def __init__(self, usage: Usage, form: Form, *, events: bool) -> None:
        """Start with an answer in a form, as `events` (a stream) or as one JSON object."""
        self._usage = usage
        self._form = form
        self._events = events
        self._rest = b""
        self._parts: list[bytes] = []
        self._bytes = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        if not self._events:
            self._bytes += len(chunk)
            if self._bytes <= _MOST_BYTES:
                self._parts.append(chunk)
            return
        lines = self._rest + chunk if self._rest else chunk
        end = lines.rfind(b"\n") + 1
        if end != len(lines):
            lines, rest = lines[:end], lines[end:]
            self._rest = rest if len(rest) <= _MOST_BYTES else b""
        else:
            self._rest = b""
        for piece in _PIECES.findall(lines):
            self._usage.characters += len(piece)
        if _REPORTED in lines:
            for line in lines.split(b"\n"):
                if _REPORTED in line and line.startswith(_DATA):
                    self._note(line[len(_DATA) :])

    def finish(self, asked: int) -> None:
        """Complete the usage when no more bytes come; estimate what was not reported.

        `asked` is the number of characters of the question; 0 if the model did not receive it.
        """
        if self._parts:
            whole = b"".join(self._parts)
            self._parts.clear()
            self._note(whole)
            if not self._usage.output_known:
                self._usage.characters += sum(map(len, _PIECES.findall(whole)))
        usage = self._usage
        if not usage.output_known:
            usage.output_tokens = max(usage.output_tokens, math.ceil(usage.characters / CHARACTERS_PER_TOKEN))
        if asked and not usage.input_tokens:
            usage.uncached_tokens = math.ceil(asked / CHARACTERS_PER_TOKEN)

    def _note(self, data: bytes) -> None:
        try:
            found = orjson.loads(data)
        except orjson.JSONDecodeError:
            return
        if not isinstance(found, dict):
            return
        if self._form is Form.CHAT_COMPLETIONS:
            self._of_chat(found)
            return
        self._count_message(found)

    def _count_message(self, found: dict[str, Any]) -> None:
        if found.get("type") == "message_start":
            count(self._usage, _object(found.get("message")).get("usage"))
            return
        self._usage.output_known |= count(self._usage, found.get("usage"))
        reason = _object(found.get("delta")).get("stop_reason") or found.get("stop_reason")
        if isinstance(reason, str) and _REASON.fullmatch(reason):
            self._usage.stop_reason = reason

    def _of_chat(self, found: dict[str, Any]) -> None:
        """Record the usage of a Chat Completions object, whose input includes what was read from the cache."""
        counts = _object(found.get("usage"))
        cached = plausible(_object(counts.get("prompt_tokens_details")).get("cached_tokens"))
        sent, received = plausible(counts.get("prompt_tokens")), plausible(counts.get("completion_tokens"))
        if sent:
            self._usage.cache_read_tokens = min(cached, sent)
            self._usage.uncached_tokens = sent - self._usage.cache_read_tokens
        self._usage.output_tokens = received or self._usage.output_tokens
        self._usage.output_known |= received > 0


def asked(body: bytes) -> int:
    """Return about how many characters of a question the model reads, for an estimate of its tokens."""
    # A small body is not worth the search.
    return len(body) if len(body) <= _SMALL_BYTES else sum(map(len, _ASKED.findall(body)))


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
