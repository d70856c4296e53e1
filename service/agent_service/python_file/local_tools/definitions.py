"""The tools of a file that was run, checked when it is loaded."""

import inspect
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_service.python_file.failures import SOURCE
from agent_service.python_file.loading import FileError, place_of
from agent_service.python_file.local_tools.marks import marked
from agent_service.python_file.local_tools.schema import Arguments, SignatureError, arguments_of
from agent_service.python_file.local_tools.source import redefined
from portside.tools import MARK, ToolMark

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
MOST_TOOLS = 200
"""Maximum number of tools of a file. A model chooses badly from far fewer."""


@dataclass(frozen=True, slots=True)
class LocalTool:
    """A function of the file, as a tool."""

    name: str
    description: str
    arguments: Arguments
    function: Callable[..., Any]
    is_async: bool
    timeout: float | None
    """Maximum seconds of one call; None if only the caller limits it."""
    place: str
    """Its file and line."""


LocalTools = Mapping[str, LocalTool]
"""The tools of a file by their names."""


def find_tools(file: Path, module: types.ModuleType) -> LocalTools:
    """Return the tools of a file that was run.

    Raises:
        FileError: if there are none, or one cannot be used.
    """
    functions = marked(module)
    if not functions:
        raise FileError(f"{file}: defines no tools; put `@tool` (from portside import tool) above a function")
    if len(functions) > MOST_TOOLS:
        raise FileError(f"{file}: defines {len(functions)} tools; the maximum is {MOST_TOOLS}")
    if again := redefined("".join(getattr(module, SOURCE))):
        name, line = again
        raise FileError(f"{file}:{line}: a second tool `{name}` replaces the first one; rename one of the functions")
    tools: dict[str, LocalTool] = {}
    for function in functions:
        found = _tool(function, file)
        if found.name in tools:
            raise FileError(
                f"{found.place}: the name {found.name} is that of the tool at {tools[found.name].place}; rename one"
            )
        tools[found.name] = found
    return tools


def _tool(function: Callable[..., Any], file: Path) -> LocalTool:
    place = place_of(function, file)
    mark: ToolMark = getattr(function, MARK)
    name = mark.name if mark.name is not None else function.__name__
    if not _NAME.fullmatch(name):
        raise FileError(f"{place}: a tool's name has 1 to 64 letters, digits, _ and -; set it with @tool(name=…)")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise FileError(f"{place}: the tool {name} yields; a tool must return its result")
    try:
        arguments = arguments_of(function)
    except SignatureError as error:
        raise FileError(f"{place}: the tool {name} cannot be used: {error}") from None
    description = mark.description if mark.description is not None else inspect.getdoc(function) or ""
    return LocalTool(name, description, arguments, function, inspect.iscoroutinefunction(function), mark.timeout, place)
