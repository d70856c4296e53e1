"""Reads and changes the fields of a JSON object in its bytes. Pure.

The object is neither parsed as a whole nor serialized again: the model API receives the caller's bytes, also where they
are not valid JSON. Only fields of the outermost object are found, and a change replaces just their bytes.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import orjson

# A string, or a bracket. What is between them does not change the depth.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\]]', re.DOTALL)
_COLON = re.compile(rb"\s*:\s*")
_SCALAR = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[^,}\]\s]+', re.DOTALL)
_COMMA_AFTER = re.compile(rb"\s*,\s*")
_COMMA_BEFORE = re.compile(rb",\s*\Z")
_EMPTY = re.compile(rb"\s*}")
_QUOTE, _OPENING = ord('"'), frozenset(b"{[")


class NotAnObjectError(ValueError):
    """The bytes are not a JSON object."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field: its name, and where its name, its value and the end of its value are.

    `end` is None if the value is an object or an array.
    """

    name: str
    start: int
    value: int
    end: int | None

    def scalar(self, body: bytes) -> object:
        """Return the value; None if it is an object or an array, or not valid JSON."""
        return None if self.end is None else _loaded(body[self.value : self.end])


def fields(body: bytes, names: frozenset[str]) -> Iterator[Field]:
    """Yield the fields of the outermost object that have one of the names, in their order.

    Raises:
        NotAnObjectError: when the body does not begin as an object.
    """
    if body.lstrip()[:1] != b"{":
        raise NotAnObjectError("is not a JSON object")
    raw_names = {f'"{name}"'.encode(): name for name in names}
    depth = 0
    for token in _TOKEN.finditer(body):
        first = body[token.start()]
        if first == _QUOTE:
            if depth == 1 and (name := _name(token[0], raw_names)) is not None:
                colon = _COLON.match(body, token.end())
                if colon is not None:
                    scalar = None if body[colon.end() : colon.end() + 1] in {b"{", b"["} else _SCALAR
                    found = None if scalar is None else scalar.match(body, colon.end())
                    yield Field(name, token.start(), colon.end(), None if found is None else found.end())
        elif first in _OPENING:
            depth += 1
        else:
            depth -= 1


def without(body: bytes, names: frozenset[str]) -> bytes:
    """Return the object without the fields of these names whose values are scalars."""
    # From the end, so that the positions of the earlier ones stay valid.
    for found in sorted(fields(body, names), key=lambda each: each.start, reverse=True):
        if found.end is None:
            continue
        before, after = body[: found.start], body[found.end :]
        comma = _COMMA_AFTER.match(after)
        body = _COMMA_BEFORE.sub(b"", before) + after if comma is None else before + after[comma.end() :]
    return body


def with_fields(body: bytes, added: Mapping[str, object]) -> bytes:
    """Return the object with further fields at its beginning."""
    if not added:
        return body
    inside = body.index(b"{") + 1
    new = orjson.dumps(dict(added))[1:-1]
    if not _EMPTY.match(body, inside):
        new += b","
    return body[:inside] + new + body[inside:]


def _name(raw: bytes, names: Mapping[bytes, str]) -> str | None:
    """Return the name of a field that is looked for, whose characters may be escaped; None for any other string."""
    if b"\\" in raw:
        name = _loaded(raw)
        return name if isinstance(name, str) and name in names.values() else None
    return names.get(raw)


def _loaded(raw: bytes) -> object:
    """Return a scalar; None if it is not valid JSON."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
