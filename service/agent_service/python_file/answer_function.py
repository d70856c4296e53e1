"""The function `answer` of a Python file."""

import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_service.python_file.loading import FileError, place_of
from agent_service.python_file.local_tools.marks import marked

_MISSING = "defines no `answer`; add `async def answer(turn)`, which returns or yields text"


@dataclass(frozen=True, slots=True)
class Loaded:
    """The function `answer` of a file."""

    answer: Callable[[Any], Any]
    yields: bool
    """Whether it yields pieces of text; otherwise it returns one text."""
    place: str
    """Its file and line."""


def find_answer(file: Path, module: types.ModuleType) -> Loaded:
    """Return the function `answer` of a file that was run.

    Raises:
        FileError: if there is none, or it cannot be used.
    """
    answer = getattr(module, "answer", None)
    if answer is None:
        served = ". Its tools are served by `agent-service tools`" if marked(module) else ""
        other = "" if served else ", or functions with `@tool` (from portside import tool) for the built-in agent"
        raise FileError(f"{file}: {_MISSING}{other}{served}")
    if not callable(answer):
        raise FileError(f"{file}: `answer` is not a function; write `async def answer(turn)`")
    place = place_of(answer, file)
    function = answer if inspect.isroutine(answer) or _is_partial(answer) else type(answer).__call__
    yields = inspect.isasyncgenfunction(function)
    if not yields and not inspect.iscoroutinefunction(function):
        raise FileError(f"{place}: `answer` is not asynchronous; write `async def answer(turn)`, not `def`")
    try:
        inspect.signature(answer).bind(None)
    except TypeError:
        raise FileError(f"{place}: `answer` must take one argument; write `async def answer(turn)`") from None
    return Loaded(answer, yields, place)


def _is_partial(answer: object) -> bool:
    # `functools.partial` objects are recognised by `inspect` themselves.
    return hasattr(answer, "func")
