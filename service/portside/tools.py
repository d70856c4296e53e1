"""Functions that a model may call: the decorator `tool`, and images as their results."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

MARK = "__portside_tool__"
"""Attribute of a decorated function, with its `ToolMark`."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ToolMark:
    """What `@tool(…)` was given. The rest follows from the function."""

    name: str | None = None
    description: str | None = None
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """An image as the result of a tool, or as one of several in a list."""

    data: bytes = field(repr=False)
    media_type: str = "image/png"


@overload
def tool(function: _Function, /) -> _Function: ...


@overload
def tool(
    *, name: str | None = None, description: str | None = None, timeout: float | None = None
) -> Callable[[_Function], _Function]: ...


def tool(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
) -> Any:
    """Offer a function to the model: `@tool`, or `@tool(timeout=10)`. The function itself stays as it is.

    Args:
        function: a function, `def` or `async def`. Its parameters need type hints.
        name: name of the tool; the function's name if unset.
        description: what the tool does, for the model; the function's docstring if unset.
        timeout: maximum seconds of one call.

    Raises:
        TypeError: if it decorates something other than a function.
        ValueError: if the timeout is not positive.
    """
    if timeout is not None and not timeout > 0:
        raise ValueError("`timeout` of @tool must be more than 0 seconds")
    mark = ToolMark(name, description, timeout)
    return _marked(function, mark) if function is not None else lambda decorated: _marked(decorated, mark)


def _marked(function: Any, mark: ToolMark) -> Any:
    if not inspect.isfunction(function):
        raise TypeError(f"@tool must decorate a function, not {type(function).__name__}; put it above `def`")
    setattr(function, MARK, mark)
    return function
