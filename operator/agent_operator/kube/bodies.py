"""Encoding of request bodies, and decoding of API server responses into documents of bounded size.

The API server stores any object that fits into etcd (1.5 MiB). A schemaless field, or the managed fields of any object,
may be nested thousands of levels deep. It may also hold half a million empty objects, which take 75 times the size of
their text as Python objects. An object beyond these bounds is decoded to a summary, so that it affects only its own
agent.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from agent_operator.api.bounds import MAX_DEPTH, MAX_VALUES, TOO_DEEP, TOO_MANY, UNREADABLE, excess
from agent_operator.manifests.document import Document

# Bounds of a whole object: a spec within bounds, and what the API server and other clients add.
OBJECT_DEPTH = MAX_DEPTH + 2
OBJECT_VALUES = MAX_VALUES + 5_000
# Bounds of one page of a list. Beyond them, each item is decoded separately.
MAX_PAGE_VALUES = 200_000
MAX_PAGE = 1 << 22
# From this size, in bytes, decoding would block the event loop for too long.
LARGE = 1 << 18

# YAML 1.2 does not allow these characters in text (5.1), or reads them as a line break (5.4) or a byte order mark.
# They stay escaped.
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_STRINGS = re.compile(_STRING, re.DOTALL)


def _content(levels: int) -> bytes:
    """Return an expression for the content of brackets, up to the first bracket nested deeper than `levels`."""
    inner = _content(levels - 1) if levels else b""
    brackets = rb"|\{%s\}|\[%s\]" % (inner, inner) if levels else b""
    return rb'(?:%s|[^"{}\[\]]++%s)*+' % (_STRING, brackets)


# Levels that are skipped in one match: half a million brackets take 10 ms this way, and a second one by one.
_FLAT = re.compile(_content(4), re.DOTALL)
_SCALAR = re.compile(rb"[^,}\]\s]+")
_SPACE = re.compile(rb"[\s,:]*")
_NO_SKELETON = bytes(set(range(256)) - set(b"{}[],"))
Span = tuple[int, int]
"""The start and end of a value."""

_PARTS = ("apiVersion", "kind", "status")


def encode(document: Any) -> bytes:
    """Return the document as JSON that is also valid YAML: the API server parses server-side apply requests as YAML.

    Characters outside the Basic Multilingual Plane are written unescaped, because JSON's pairs of escapes for them are
    an error in YAML. An unpaired surrogate, which is not a character, becomes U+FFFD, as in Go's decoder.
    """
    text = json.dumps(document, ensure_ascii=False)
    if text.isascii() and "\x7f" not in text:
        return text.encode()
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", whole(text)).encode()


def whole(text: str) -> str:
    """Return the text with surrogate pairs joined, and U+FFFD in place of each unpaired surrogate."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def decode(raw: bytes) -> Document:
    """Return a response body as a document, with summaries of objects beyond bounds; {} if it is not a JSON object.

    A response is an object, a list of objects, or a Status.
    """
    try:
        fault = _fault(raw) if len(raw) <= MAX_PAGE else TOO_MANY
        if fault is None:
            return _object(json.loads(raw))
        spans = {key: (start, end) for key, start, end in _members(raw)}
        return _list(raw, spans) if "items" in spans else _within_bounds(raw, spans, fault)
    except (ValueError, KeyError, IndexError, RecursionError):
        return {}


async def decode_answer(raw: bytes) -> Document:
    """Decode like `decode`, in a thread if that takes long."""
    return decode(raw) if len(raw) < LARGE else await asyncio.to_thread(decode, raw)


def within_bounds(line: bytes) -> bytes:
    """Return the line of a watch unchanged, or with a summary of its object if that is beyond bounds."""
    try:
        if _fault(line) is None:
            return line
        spans = {key: line[start:end] for key, start, end in _members(line)}
        fault = _fault(spans["object"])
        found = json.loads(spans["object"]) if fault is None else _summary(spans["object"], fault)
        return json.dumps({"type": json.loads(spans["type"]), "object": found}).encode()
    except (ValueError, KeyError):
        return line  # Not an event: the reader of the watch reports it.


async def lines_within_bounds(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the lines of a watch, each with its line break, as `within_bounds` returns them."""
    buffer = bytearray()
    async for chunk in chunks:
        start = len(buffer)
        buffer += chunk
        while (end := buffer.find(b"\n", start)) >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            start = 0
            yield (within_bounds(line) if len(line) < LARGE else await asyncio.to_thread(within_bounds, line)) + b"\n"
    if buffer:
        yield within_bounds(bytes(buffer))


def _fault(raw: bytes, most: int = OBJECT_VALUES, max_depth: int = OBJECT_DEPTH) -> str | None:
    """Return how the JSON exceeds the bounds, or None if it does not. Takes 10 ms per megabyte."""
    skeleton = _STRINGS.sub(b"", raw).translate(None, _NO_SKELETON)
    opened = skeleton.count(b"{") + skeleton.count(b"[")
    if opened + skeleton.count(b",") > most:
        return TOO_MANY
    if opened <= max_depth:
        return None
    skeleton = skeleton.replace(b",", b"")
    for _ in range(max_depth):  # each pass removes the innermost brackets
        left = skeleton.replace(b"{}", b"").replace(b"[]", b"")
        if not left or len(left) == len(skeleton):
            return None
        skeleton = left
    return TOO_DEEP


def _summary(raw: bytes, fault: str) -> Document:
    return _within_bounds(raw, {key: (start, end) for key, start, end in _members(raw)}, fault)


def _within_bounds(raw: bytes, spans: Mapping[str, Span], fault: str) -> Document:
    """Return the object whose JSON has this fault: without its managed fields if they cause it, else its summary."""
    metadata = {key: (start, end) for key, start, end in _members(raw, *spans["metadata"][:1])}
    if "managedFields" in metadata:
        start, end = metadata.pop("managedFields")
        rest = raw[:start] + b"null" + raw[end:]
        rest_fault = _fault(rest)
        if rest_fault is None:
            document = _object(json.loads(rest))
            del document["metadata"]["managedFields"]
            return document
        fault = rest_fault
    parts = {key: spans[key] for key in _PARTS if key in spans}
    return _read(raw, parts) | {"metadata": _read(raw, metadata), UNREADABLE: list(_faults(raw, spans, fault))}


def _read(raw: bytes, spans: Mapping[str, Span]) -> Document:
    """Return the members that are within bounds."""
    parts = {key: raw[start:end] for key, (start, end) in spans.items()}
    return {key: json.loads(part) for key, part in parts.items() if _fault(part) is None}


def _faults(raw: bytes, spans: Mapping[str, Span], fault: str) -> Iterator[list[str]]:
    """Yield the field and a sentence for each field of the spec that is beyond bounds, else for the whole spec."""
    spec = spans.get("spec")
    members = _members(raw, spec[0]) if spec is not None and raw[spec[0] : spec[0] + 1] == b"{" else ()
    found = [(f"spec.{key}", _fault(raw[start:end], MAX_VALUES, MAX_DEPTH)) for key, start, end in members]
    yield from [[field, each] for field, each in found if each is not None] or [["spec", fault]]


def _list(raw: bytes, spans: Mapping[str, Span]) -> Document:
    """Return the list, decoded as a whole if that is cheap, else item by item."""
    if len(raw) <= MAX_PAGE and _fault(raw, MAX_PAGE_VALUES) is None:
        document = _object(json.loads(raw))
        return document | {"items": [_counted(item) for item in document["items"] or []]}
    start, _ = spans["items"]
    items = [_item(raw[first:last]) for first, last in _items(raw, start)]
    rest = {key: json.loads(raw[first:last]) for key, (first, last) in spans.items() if key != "items"}
    return {**rest, "items": items}


def _item(raw: bytes) -> Document:
    fault = _fault(raw)
    return _object(json.loads(raw)) if fault is None else _summary(raw, fault)


def _counted(item: Document) -> Document:
    """Return the item of a list, or its summary if it is beyond bounds."""
    if excess(item, OBJECT_DEPTH, OBJECT_VALUES) is None:
        return item
    item["metadata"].pop("managedFields", None)
    fault = excess(item, OBJECT_DEPTH, OBJECT_VALUES)
    if fault is None:
        return item
    parts = {key: item[key] for key in _PARTS if key in item and excess(item[key]) is None}
    metadata = {key: value for key, value in item["metadata"].items() if excess(value) is None}
    spec = item.get("spec")
    fields = spec.items() if isinstance(spec, dict) else ()
    found = [[f"spec.{key}", each] for key, value in fields if (each := excess(value)) is not None]
    return parts | {"metadata": metadata, UNREADABLE: found or [["spec", fault]]}


def _members(raw: bytes, start: int = 0) -> Iterator[tuple[str, int, int]]:
    """Yield the members of the object at `start`: the key, and the start and end of the value."""
    start = _skip(raw, start)
    if raw[start : start + 1] != b"{":
        raise ValueError("not a JSON object")
    position = _skip(raw, start + 1)
    while raw[position : position + 1] == b'"':
        end = _end(raw, position)
        key = json.loads(raw[position:end])
        position = _skip(raw, end)
        end = _end(raw, position)
        yield key, position, end
        position = _skip(raw, end)


def _items(raw: bytes, start: int) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each member of the list at `start`."""
    if raw[start : start + 1] != b"[":
        return
    position = _skip(raw, start + 1)
    while raw[position : position + 1] not in (b"]", b""):
        end = _end(raw, position)
        yield position, end
        position = _skip(raw, end)


def _skip(raw: bytes, position: int) -> int:
    match = _SPACE.match(raw, position)
    return match.end() if match else position


def _end(raw: bytes, start: int) -> int:
    """Return the end of the value at `start`."""
    if raw[start : start + 1] not in (b"{", b"["):
        match = (_STRINGS if raw[start : start + 1] == b'"' else _SCALAR).match(raw, start)
        if match is None:
            raise ValueError("not JSON")
        return match.end()
    depth, position = 0, start
    while position < len(raw):
        if raw[position] in b"{[":
            depth += 1
        else:
            depth -= 1
        position += 1
        if depth == 0:
            return position
        content = _FLAT.match(raw, position)
        position = content.end() if content is not None else position
    raise ValueError("unterminated JSON")


def _object(value: Any) -> Document:
    return value if isinstance(value, dict) else {}
