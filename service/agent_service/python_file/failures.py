"""Reports on exceptions of the file: their place in it, and a traceback of its own frames alone, without secrets."""

import sysconfig
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType

from agent_service.telemetry.redact import for_log

# Modules of this package are not the user's, even where its source is below the file's folder.
_OURS = str(Path(__file__).parents[1])
SOURCE = "__portside_source__"
"""Global of a loaded file: the lines that it was loaded from. Those on disk may be of another version."""

_MOST_FRAMES = 20
_MOST_CAUSES = 5


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception as the log shows it. No text of it goes to a client."""

    file: str
    line: int | None
    error: str
    message: str
    traceback: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.error}: {self.message}" if self.message else f"{place}: {self.error}"


def describe(error: BaseException, file: Path) -> Failure:
    """Return the report on an exception that the file raised, at any depth below it."""
    error = _leaf(error)
    frames = _frames(error.__traceback__, file)
    if isinstance(error, SyntaxError) and error.filename:
        name, line, message = error.filename, error.lineno, error.msg
    else:
        name, line = (frames[-1].filename, frames[-1].lineno) if frames else (str(file), None)
        message = str(error)
    return Failure(name, line, type(error).__name__, for_log(message), "\n".join([*_lines(frames), *_causes(error)]))


def is_theirs(filename: str, file: Path) -> bool:
    """Return whether a source file belongs to the user: the file itself, or a module next to it or below."""
    if filename == str(file):
        return True
    ours = (_OURS, *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")))
    return filename.startswith(f"{file.parent}/") and not filename.startswith(ours) and "-packages/" not in filename


def place_in(frame: FrameType | None, file: Path) -> tuple[str, int] | None:
    """Return the user's file and line that a stack is in; None if it is in none of the user's files."""
    while frame is not None:
        if is_theirs(frame.f_code.co_filename, file):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return None


def _leaf(error: BaseException) -> BaseException:
    # A TaskGroup wraps the exceptions of its tasks.
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _frames(trace: TracebackType | None, file: Path) -> list[traceback.FrameSummary]:
    found = [
        traceback.FrameSummary(frame.f_code.co_filename, line, frame.f_code.co_name, line=_line(frame, line))
        for frame, line in traceback.walk_tb(trace)
        if is_theirs(frame.f_code.co_filename, file)
    ]
    return found[-_MOST_FRAMES:]


def _line(frame: FrameType, number: int) -> str | None:
    """Return a line of the version of the file that the frame runs; None for other modules, which are on disk."""
    lines = frame.f_globals.get(SOURCE)
    return lines[number - 1].strip() if isinstance(lines, list) and 0 < number <= len(lines) else None


def _lines(frames: list[traceback.FrameSummary]) -> list[str]:
    return [f"{each.filename}:{each.lineno} in {each.name}: {for_log(each.line or '')}" for each in frames]


def _causes(error: BaseException) -> list[str]:
    lines: list[str] = []
    while len(lines) < _MOST_CAUSES:
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is None:
            break
        lines.append(f"caused by {type(cause).__name__}: {for_log(str(cause))}")
        error = cause
    return lines
