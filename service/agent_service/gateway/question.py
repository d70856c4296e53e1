"""What the gateway reads in the body of a call, and the two changes that it makes to it. Pure.

A body is never parsed as a whole nor serialized again: the model API receives the caller's bytes, also where they are
not valid JSON. Only the fields of the outermost object are found, and a change replaces just their bytes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import orjson

# A string, or a bracket. What is between them does not change the depth.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]]', re.DOTALL)
_COLON = re.compile(rb"\s*:\s*")
_SCALAR = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[^,}\]\s]+', re.DOTALL)
_QUOTE, _OPENING = ord('"'), frozenset(b"{[")

_MODEL, _STREAM = "model", "stream"
_LIMITS = ("max_tokens", "max_completion_tokens")
_FIELDS = {f'"{name}"'.encode(): name for name in (_MODEL, _STREAM, *_LIMITS)}

# "Top-level cache control automatically applies a cache_control marker to the last cacheable block in the request"
# (SDK, types/message_create_params.py).
_MARK = b'"cache_control":{"type":"ephemeral"},'
_MARKED = b'"cache_control"'

# No model caches less than 1,024 tokens (Claude docs, "Prompt caching"), at about four characters each.
_CACHED_BYTES = 4096


class UnreadableError(Exception):
    """The body cannot be read. The message is for the caller."""


@dataclass(frozen=True, slots=True)
class Question:
    """The body of a call: its model, whether the answer is streamed, and the bytes to send.

    `unmarked` are the bytes without the mark for the cache; None if the gateway made no mark.
    """

    model: str
    streamed: bool
    content: bytes
    unmarked: bytes | None = None

    def without_mark(self) -> "Question":
        """Return the question without the mark for the cache."""
        return self if self.unmarked is None else replace(self, content=self.unmarked, unmarked=None)


def read(body: bytes, *, most_tokens: int, mark: bool) -> Question:
    """Return the question in a body.

    Args:
        body: the body of the call.
        most_tokens: a higher limit of tokens in the body is lowered to this.
        mark: whether to mark the prompt for the cache, if it is long enough and the caller marks nothing.

    Raises:
        UnreadableError: when the body is not a JSON object with a model, or a field occurs twice.
    """
    found: dict[str, tuple[int, int]] = {}
    for name, start in _top_level(body):
        if name in found:
            # Parsers differ in which of the two they take.
            raise UnreadableError(f"{name}: occurs more than once.")
        scalar = _SCALAR.match(body, start)
        if scalar is not None:
            found[name] = scalar.span()
    model = _value(body, found.get(_MODEL))
    if not isinstance(model, str) or not model:
        raise UnreadableError("model: Field required, as a string.")
    content = body
    # From the end, so that the positions of the earlier ones stay valid.
    for span in sorted((found[name] for name in _LIMITS if name in found), reverse=True):
        if _exceeds(_value(body, span), most_tokens):
            content = content[: span[0]] + str(most_tokens).encode() + content[span[1] :]
    unmarked = None
    if mark and len(content) >= _CACHED_BYTES and _MARKED not in content:
        unmarked, inside = content, content.index(b"{") + 1
        content = content[:inside] + _MARK + content[inside:]
    return Question(model, _value(body, found.get(_STREAM)) is True, content, unmarked)


def _top_level(body: bytes) -> Iterator[tuple[str, int]]:
    """Yield each of our fields in the outermost object, with the position of its value."""
    if body.lstrip()[:1] != b"{":
        raise UnreadableError("The request body is not a JSON object.")
    depth = 0
    for token in _TOKEN.finditer(body):
        first = body[token.start()]
        if first == _QUOTE:
            if depth == 1 and (name := _field(token[0])) is not None:
                colon = _COLON.match(body, token.end())
                if colon is not None:
                    yield name, colon.end()
        elif first in _OPENING:
            depth += 1
        else:
            depth -= 1


def _field(raw: bytes) -> str | None:
    """Return the name of one of our fields, whose characters may be escaped; None for any other string."""
    if b"\\" in raw:
        name = _loaded(raw)
        return name if isinstance(name, str) and name in _FIELDS.values() else None
    return _FIELDS.get(raw)


def _value(body: bytes, span: tuple[int, int] | None) -> object:
    return None if span is None else _loaded(body[span[0] : span[1]])


def _loaded(raw: bytes) -> object:
    """Return a scalar; None if it is not valid JSON."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None


def _exceeds(value: object, most: int) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > most
