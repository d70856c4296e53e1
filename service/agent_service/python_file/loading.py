"""Load a Python file, and find its function `answer`."""

import inspect
import linecache
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_service.python_file.failures import SOURCE, describe

# Not the file's own name: a file `anthropic.py` would replace the SDK.
MODULE = "portside_agent_file"

# A ConfigMap holds at most 1 MiB.
MOST_BYTES = 4 * 2**20


class FileError(Exception):
    """The file cannot be used as an agent. The message is one line: file, line, reason, and what to do."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The function `answer` of a file."""

    answer: Callable[[Any], Any]
    yields: bool
    """Whether it yields pieces of text; otherwise it returns one text."""
    place: str
    """Its file and line."""


def load(file: Path, name: str = MODULE) -> Loaded:
    """Run the file as a module of this name, and return its function `answer`.

    Raises:
        FileError: if that is impossible. The module is then gone, and nothing of a version loaded before has changed.
    """
    source = _read(file)
    lines = source.splitlines(keepends=True)
    module = types.ModuleType(name)
    module.__file__ = str(file)
    module.__dict__[SOURCE] = lines
    # Dataclasses and pickle look their module up there.
    sys.modules[name] = module
    try:
        exec(compile(source, str(file), "exec", dont_inherit=True), module.__dict__)  # noqa: S102  what it is for
        loaded = _check(file, getattr(module, "answer", None))
    except BaseException as error:
        sys.modules.pop(name, None)
        if isinstance(error, FileError):
            raise
        raise FileError(_explain(error, file)) from None
    # A traceback that the file itself logs shows the lines that run, also after the file has changed.
    linecache.cache[str(file)] = (len(source), None, lines, str(file))
    return loaded


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise FileError(f"{file}: cannot be read: {error.strerror}") from None
    if len(content) > MOST_BYTES:
        raise FileError(f"{file}: is larger than {MOST_BYTES // 2**20} MiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FileError(f"{file}:{line}: is not UTF-8 text; save the file as UTF-8") from None


def _explain(error: BaseException, file: Path) -> str:
    if isinstance(error, SystemExit):
        place = str(describe(error, file)).partition(": ")[0]
        return f"{place}: the file ends the process while it is loaded (sys.exit); it must only define `answer`"
    advice = ""
    if isinstance(error, ModuleNotFoundError):
        advice = "; install the package, or build an image of your own that contains it"
    return f"{describe(error, file)}{advice}"


def _check(file: Path, answer: object) -> Loaded:
    if answer is None:
        raise FileError(f"{file}: defines no `answer`; add `async def answer(turn)`, which returns or yields text")
    if not callable(answer):
        raise FileError(f"{file}: `answer` is not a function; write `async def answer(turn)`")
    place = _place(answer, file)
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


def _place(answer: object, file: Path) -> str:
    code = getattr(inspect.unwrap(answer) if callable(answer) else answer, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else str(file)
