"""Load a Python file, and find in it what is served."""

import inspect
import linecache
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from agent_service.python_file.failures import SOURCE, describe

# Not the file's own name: a file `anthropic.py` would replace the SDK.
MODULE = "portside_agent_file"

# A ConfigMap holds at most 1 MiB.
MOST_BYTES = 4 * 2**20

_T = TypeVar("_T")


class FileError(Exception):
    """The file cannot be used. The message is one line: file, line, reason, and what to do."""


def load(file: Path, find: Callable[[Path, types.ModuleType], _T], name: str = MODULE) -> _T:
    """Run the file as a module of this name, and return what `find` finds in it.

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
        found = find(file, module)
    except BaseException as error:
        sys.modules.pop(name, None)
        if isinstance(error, FileError):
            raise
        raise FileError(_explain(error, file)) from None
    # A traceback that the file itself logs shows the lines that run, also after the file has changed.
    linecache.cache[str(file)] = (len(source), None, lines, str(file))
    return found


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
        return f"{place}: the file ends the process while it is loaded (sys.exit); it must only define functions"
    advice = ""
    if isinstance(error, ModuleNotFoundError):
        advice = "; install the package, or build an image of your own that contains it"
    return f"{describe(error, file)}{advice}"


def place_of(function: object, file: Path) -> str:
    """Return the file and line of a function."""
    code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else str(file)
