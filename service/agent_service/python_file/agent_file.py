"""The file of an agent, which is loaded again after a change if that is wanted."""

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from agent_service.python_file.loading import FileError, load

_log = structlog.get_logger(__name__)

Mark = tuple[int, ...]

_T = TypeVar("_T")


class AgentFile(Generic[_T]):
    """The file and what is served of it: what `find` returns, such as its function `answer`.

    With `reload`, a change applies to the next use. While the new version has an error, every use fails: the previous
    version would hide that.
    """

    def __init__(self, file: Path, find: Callable[[Path, types.ModuleType], _T], *, reload: bool) -> None:
        self.path = file.absolute()
        self._find = find
        self._reload = reload
        self._mark: Mark = ()
        self._loaded: _T | None = None
        self._fault = FileError(f"{self.path}: is not loaded")

    def load(self) -> None:
        """Load the file for the first time.

        Raises:
            FileError: if it has an error.
        """
        folder = str(self.path.parent)
        if folder not in sys.path:
            # At the end: a module next to the file must not replace one of an installed package.
            sys.path.append(folder)
        self._load_again(self._stat())

    def current(self) -> _T:
        """Return what is served of the current version.

        Raises:
            FileError: if that version has an error.
        """
        if self._reload and (mark := self._stat()) != self._mark:
            try:
                self._load_again(mark)
                _log.info("File of the agent changed, loaded it again", file=str(self.path))
            except FileError as error:
                _log.error("File of the agent has an error", error=str(error))
        if self._loaded is None:
            raise self._fault
        return self._loaded

    def _load_again(self, mark: Mark) -> None:
        self._mark, self._loaded = mark, None
        try:
            self._loaded = load(self.path, self._find)
        except FileError as error:
            self._fault = error
            raise

    def _stat(self) -> Mark:
        try:
            seen = self.path.stat()
        except OSError:
            return (0,)
        return seen.st_dev, seen.st_ino, seen.st_mtime_ns, seen.st_size
