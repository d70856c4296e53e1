"""Expressions of CEL, as text (Kubernetes: "Common Expression Language")."""

import json
from collections.abc import Sequence
from typing import Any


def literal(value: Any) -> str:
    """Return the value as a literal; the members of a map or list may be of different types."""
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(key)}: dyn({literal(each)})" for key, each in value.items()) + "}"
    return json.dumps(value)


def optional(base: str, path: str) -> str:
    """Return the optional value at a path below another value."""
    return base + "".join(f".?{name}" for name in path.split(".")) if path else base


def joined(lists: Sequence[str]) -> str:
    """Return the concatenation of lists."""
    return " + ".join(f"({each})" for each in lists)


def only_if(condition: str, found: str) -> str:
    """Return a list that is empty unless the condition holds."""
    return f"{condition} ? ({found}) : []"


def matches(value: str, patterns: str) -> str:
    """Return whether a text equals a pattern, or begins as one that ends with `*`."""
    begins = f"{value}.startsWith(pattern.substring(0, pattern.size() - 1))"
    return f"{patterns}.exists(pattern, pattern == {value} || (pattern.endsWith('*') && {begins}))"
