r"""YAML and JSON as kubectl reads them.

Kubernetes reads YAML with go.yaml.in/yaml/v2 and converts it to JSON. There `1e3`, `0o17` and `1234e56` are numbers,
`y` is a boolean, `12:30:45` and dates are strings, and the later of two equal keys counts. PyYAML differs, so only its
parser is used: scalars (yaml_scalars.py), mappings, merge keys and aliases follow the Go sources, which each rule
names. tests/cluster/test_kubectl_yaml.py compares the two.

Known differences:

- In braces or brackets, a plain text that ends with a colon is refused here and accepted by kubectl.
- The escape `\/` is accepted here and refused by kubectl.
- A tag that contains a bracket or a comma is refused here.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agent_operator.tools.yaml_nodes import Node, UnreadableError, compose
from agent_operator.tools.yaml_scalars import INT64, MERGE, ScalarError, float_key, json_value, scalar

# decode.go, `allowedAliasRatio`.
_FREE_ALIASES, _FREE_DECODES = 100, 1000
_RATIO_LOW, _RATIO_HIGH = 400_000, 4_000_000

_NOT_SPACE = re.compile(r"[^ \t\r\n]")
_END = object()
# Number of characters in which kubectl searches for the opening brace of JSON (cli-runtime, resource/visitor.go).
_GUESS = 4096
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Reading:
    """One document of a file, as plain JSON values.

    `repeated` has the paths of duplicate keys, of which the last counts.
    """

    value: Any
    repeated: tuple[str, ...] = ()


def decode(data: bytes) -> str:
    """Return the text of a file: UTF-8, or UTF-16 if it has that byte order mark; invalid bytes become U+FFFD.

    (cli-runtime, resource/visitor.go: `unicode.BOMOverride`.)
    """
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if data.startswith(mark):
            return data.removeprefix(mark).decode(encoding, errors="replace")
    return data.decode("utf-8", errors="replace")


def read(text: str) -> Iterator[Reading]:
    """Yield the documents of a file. Raises UnreadableError at a fault, after those before it, which kubectl applies.

    (apimachinery, util/yaml/decoder.go: `YAMLOrJSONDecoder`.)
    """
    if not text[:_GUESS].lstrip().startswith("{"):
        yield from _read_yaml(text, 0)
        return
    rest, fault = 0, None
    for value, rest in _read_json(text):  # noqa: B007  the last one is where what may be YAML begins
        if isinstance(value, ValueError):
            fault = value
        elif value is not _END:
            yield Reading(_mended(value))
    try:
        yield from _read_yaml(text, rest)
    except UnreadableError:
        # kubectl reports the fault of the format that it tried first.
        raise _of_json(fault) if fault is not None else UnreadableError("neither JSON nor YAML") from None


def _read_json(text: str) -> Iterator[tuple[Any, int]]:
    """Yield the values of a JSON stream, each with its end.

    The last item is _END, or the error in the rest, with the start of the rest, which may be YAML.
    """
    decoder = json.JSONDecoder(parse_float=_json_number, parse_int=_json_number, parse_constant=_no_constant)
    number, at = 0, 0
    while True:
        beginning = _NOT_SPACE.search(text, at)
        start = beginning.start() if beginning is not None else len(text)
        if start == len(text):
            yield _END, start
            return
        try:
            value, end = decoder.raw_decode(text, start)
        except RecursionError:
            raise UnreadableError("nested too deeply") from None
        except UnreadableError:
            raise
        except ValueError as error:
            # After two values, the rest must be JSON too.
            if number > 1:
                raise _of_json(error) from None
            yield error, at
            return
        number, at = number + 1, end
        yield value, end


def _read_yaml(text: str, start: int) -> Iterator[Reading]:
    first = text.count("\n", 0, start)
    for number, document in _documents(text[start:]):
        yield _Decoder().decode(compose(document, first + number))


def _documents(text: str) -> Iterator[tuple[int, str]]:
    """Yield the texts between separators, each with the number of lines before it (decoder.go: `YAMLReader`)."""
    lines: list[str] = []
    begin = 0
    for number, line in enumerate(text.removesuffix("\n").split("\n")):
        if line.startswith("---"):
            rest = line[3:].strip()
            if rest and not rest.startswith("#"):
                raise UnreadableError("only a comment may follow the separator ---", number + 1)
            if lines:
                yield begin, "".join(lines)
                lines, begin = [], number + 1
                continue
        lines.append(f"{line.removesuffix(chr(13))}\n")
    if lines:
        yield begin, "".join(lines)


class _Decoder:
    """Conversion of nodes to JSON values (decode.go: `decoder`; sigs.k8s.io/yaml: `convertToJSONableObject`)."""

    def __init__(self) -> None:
        self._decodes = 0
        self._aliased = 0
        self._depth = 0
        self._active: set[int] = set()
        self._path: list[str] = []
        self._repeated: dict[str, None] = {}

    def decode(self, node: Node) -> Reading:
        try:
            return Reading(self._value(node), tuple(self._repeated))
        except ScalarError as error:
            raise UnreadableError(str(error)) from None
        except RecursionError:
            raise UnreadableError("nested too deeply") from None

    def _value(self, node: Node) -> Any:
        self._count()
        if node.kind == "alias":
            return self._of_alias(node, self._value)
        if node.kind == "scalar":
            return json_value(_value_of(node))
        if node.kind == "sequence":
            return [self._within(f"[{index}]", child) for index, child in enumerate(node.children)]
        values: dict[str, Any] = {}
        self._fill(node, values)
        return values

    def _count(self) -> None:
        self._decodes += 1
        self._aliased += self._depth > 0
        few = self._aliased <= _FREE_ALIASES or self._decodes <= _FREE_DECODES
        if not few and self._aliased / self._decodes > _allowed_ratio(self._decodes):
            raise UnreadableError("aliases make the document too large")

    def _of_alias(self, node: Node, use: Callable[[Node], Any]) -> Any:
        if id(node) in self._active or node.alias is None:
            raise UnreadableError("an anchor contains itself")
        self._active.add(id(node))
        self._depth += 1
        value = use(node.alias)
        self._depth -= 1
        self._active.discard(id(node))
        return value

    def _within(self, part: str, node: Node) -> Any:
        self._path.append(part)
        value = self._value(node)
        self._path.pop()
        return value

    def _fill(self, node: Node, values: dict[str, Any]) -> None:
        """Add a mapping's members to `values`, in order: a merge replaces values before it."""
        own: set[str] = set()
        for key, value in zip(node.children[::2], node.children[1::2], strict=True):
            if key.kind == "scalar" and key.value == "<<" and (key.implicit or key.tag == MERGE):
                self._merge(value, values)
                continue
            name = self._key(key)
            self._path.append(f".{name}")
            if name in own:
                self._repeated["".join(self._path).removeprefix(".")] = None
            own.add(name)
            values[name] = self._value(value)
            self._path.pop()

    def _merge(self, node: Node, values: dict[str, Any]) -> None:
        sources = list(reversed(node.children)) if node.kind == "sequence" else [node]
        for source in sources:
            target = source.alias if source.kind == "alias" else source
            if target is None or target.kind != "mapping":
                raise UnreadableError("a merge key needs a mapping, or a list of mappings")
            self._count()
            if source.kind == "alias":
                self._count()
                self._of_alias(source, lambda each: self._fill(each, values))
            else:
                self._fill(source, values)

    def _key(self, node: Node) -> str:
        """Return a key in its JSON form."""
        self._count()
        while node.kind == "alias":
            if node.alias is None:
                break
            node = node.alias
        if node.kind != "scalar":
            raise UnreadableError("a mapping or a list cannot be a key")
        value = _value_of(node)
        if isinstance(value, bool):
            return str(value).lower()
        if value is None or (isinstance(value, int) and value not in INT64):
            raise UnreadableError("a key must be text, a number or a boolean")
        return float_key(value) if isinstance(value, float) else str(value)


def _value_of(node: Node) -> Any:
    return scalar(node.value, node.tag, implicit=node.implicit)


def _allowed_ratio(decodes: int) -> float:
    if decodes <= _RATIO_LOW:
        return 0.99
    if decodes >= _RATIO_HIGH:
        return 0.10
    return 0.99 - 0.89 * (decodes - _RATIO_LOW) / (_RATIO_HIGH - _RATIO_LOW)


def _json_number(text: str) -> Any:
    """Return a number of a JSON file (apimachinery, util/json)."""
    # int() rejects very long texts, and Go reads such a number as a float anyway.
    if len(text) < 20 and text.removeprefix("-").isdigit():  # noqa: PLR2004  the digits of 64 bits
        return json_value(int(text))
    value = float(text)
    if math.isinf(value):
        raise UnreadableError("a number is too large")
    return json_value(value)


def _no_constant(name: str) -> Any:
    raise ValueError(f"JSON does not support {name}")


def _mended(value: Any) -> Any:
    """Return the value with U+FFFD in place of unpaired surrogates, as encoding/json does."""
    if isinstance(value, str):
        return _SURROGATES.sub("�", value)
    if isinstance(value, Mapping):
        return {_mended(key): _mended(item) for key, item in value.items()}
    return [_mended(item) for item in value] if isinstance(value, list) else value


def _of_json(error: ValueError) -> UnreadableError:
    if isinstance(error, json.JSONDecodeError):
        return UnreadableError(error.msg, error.lineno, error.colno)
    return UnreadableError(str(error))
