"""Find the functions of a file that are decorated with `@tool`."""

import inspect
import types
from collections.abc import Callable
from typing import Any

from portside.tools import MARK


def marked(module: types.ModuleType) -> list[Callable[..., Any]]:
    """Return the decorated functions in a module, imported ones too, in the order of their definition."""
    found: dict[int, Callable[..., Any]] = {}
    for value in vars(module).values():
        if inspect.isroutine(value) and hasattr(value, MARK):
            found.setdefault(id(value), value)
    return list(found.values())
