"""Bounds on the depth and size of an object. A schema cannot bound the content of a field that has no schema."""

from typing import Any

# For one field of a spec. The deepest object of the core API, including its managed fields, has about 20 levels. Python
# stops at 1,000.
MAX_DEPTH = 64
# Members of objects and lists in a whole spec. 32 additional containers with 64 variables each have about 10,000. As
# Python objects, empty objects take 75 times the size of their text.
MAX_VALUES = 20_000

TOO_DEEP = f"has more than {MAX_DEPTH} levels of nesting: nest it less deeply"
TOO_MANY = f"has more than {MAX_VALUES:,} values: make it smaller"

UNREADABLE = "portside.dev/unreadable"
"""Member of the summary of an object that exceeds the bounds: pairs of field and sentence. The API server never
stores it."""


def excess(value: Any, max_depth: int = MAX_DEPTH, max_values: int = MAX_VALUES) -> str | None:
    """Return how the value exceeds the bounds, or None if it does not. Accepts values of any depth."""
    number, level, depth = 0, [value], 0
    while level:
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                inner.extend(each.values())
                number += max(len(each), 1)
            elif isinstance(each, list):
                inner.extend(each)
                number += max(len(each), 1)
        if number > max_values:
            return TOO_MANY
        level, depth = [each for each in inner if isinstance(each, dict | list)], depth + 1
        if depth > max_depth:
            return TOO_DEEP
    return None
