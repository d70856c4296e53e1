"""How deep and how large an object may be. A schema cannot bound what stands in a field that has none."""

from typing import Any

# Of one field of a spec. The deepest object of the core API, with its managed fields, has some 20 levels, and Python
# ends at 1,000.
MAX_DEPTH = 64
# Members of objects and lists in a whole spec. 32 further containers with 64 variables each have some 10,000. Empty
# objects take 75 times their text as Python's.
MAX_VALUES = 20_000

TOO_DEEP = f"has more than {MAX_DEPTH} levels of nesting: nest it less deeply"
TOO_MANY = f"has more than {MAX_VALUES:,} values: make it smaller"

UNREADABLE = "portside.dev/unreadable"
"""Member of the summary of an object that is beyond bounds: pairs of field and sentence. The API server stores none."""


def excess(value: Any, max_depth: int = MAX_DEPTH, max_values: int = MAX_VALUES) -> str | None:
    """State how the value is beyond bounds; None if it is not. Takes values of any depth."""
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
