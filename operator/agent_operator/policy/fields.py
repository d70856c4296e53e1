"""The fields of a spec, as a document, by their paths in checks. Pure.

The first segment of a path with `[]` denotes a list of named entries, a later one any list. A segment with `{}` denotes
the values of a map.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LIST = "[]"
MAP = "{}"


class UnreadableError(Exception):
    """The spec has a type here that differs from the core API. What cannot be checked is refused."""


@dataclass(frozen=True)
class Root:
    """A value of the spec, and its path."""

    field: str
    value: Any


def roots(spec: Mapping[str, Any], segments: Sequence[str]) -> Iterator[tuple[Root, list[str]]]:
    """Yield the starting points of a check, which are the spec or the entries of a named list, with the remaining
    path."""
    first, *rest = segments
    if not first.endswith(LIST):
        yield Root("spec", spec), list(segments)
        return
    name = first.removesuffix(LIST)
    for item in spec.get(name, []):
        yield Root(f"spec.{name}[{item['name']}]", item), rest


def only(value: Any, segments: Sequence[str]) -> Any:
    """Return the value at a path without lists, or None if it is missing."""
    return next(iter(values(value, segments)), None)


def values(value: Any, segments: Sequence[str]) -> list[Any]:
    """Return the values at a path: one, or those of all entries of the lists and maps on it. Raises UnreadableError."""
    if not segments:
        return [value]
    first, *rest = segments
    found = mapping(value).get(first.removesuffix(LIST).removesuffix(MAP))
    if found is None:
        return []
    if first.endswith(MAP):
        return [each for item in mapping(found).values() for each in values(item, rest)]
    if not first.endswith(LIST):
        return values(found, rest)
    if not isinstance(found, list):
        raise UnreadableError
    return [each for item in found for each in values(item, rest)]


def plain(path: str) -> str:
    """Return a path as users write it, without the marks of lists and maps."""
    return path.replace(LIST, "").replace(MAP, "")


def mapping(value: Any) -> Mapping[str, Any]:
    """Return the value, which is an object. Raises UnreadableError if it is not."""
    if not isinstance(value, Mapping):
        raise UnreadableError
    return value


def matches(value: str, patterns: Sequence[str]) -> bool:
    """Return whether the value equals a pattern, or begins as one that ends with `*`."""
    return any(
        value.startswith(pattern.removesuffix("*")) if pattern.endswith("*") else value == pattern
        for pattern in patterns
    )
