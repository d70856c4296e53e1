"""The file of an agent: the version that answers turns, and newer ones that replace it."""

import gc
import hashlib
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from agent_service.python_file.loading import MODULE, MOST_BYTES, FileError, load

_T = TypeVar("_T")

# Two names in turn: classes are looked up by the name of their module, also those of the version before, while its
# last turns are in progress.
_MODULES = (MODULE, f"{MODULE}_2")


class AgentFile(Generic[_T]):
    """The file and what is served of it: what `find` returns, such as its function `answer`.

    `current` is for the event loop. `load_again` is for one other thread: the version in force is used meanwhile, and
    stays in force if the new one has an error.
    """

    def __init__(self, file: Path, find: Callable[[Path, types.ModuleType], _T]) -> None:
        self.path = file.absolute()
        self._find = find
        self._loaded: _T | None = None
        self._error: str | None = f"{self.path}: is not loaded"
        self._seen = b""
        self._module = _MODULES[1]

    @property
    def error(self) -> str | None:
        """The error of the newest version, in one line; None if that version is in force."""
        return self._error

    def content(self) -> bytes:
        """Return a digest of the file's content; empty if it cannot be read."""
        try:
            with self.path.open("rb") as opened:
                return hashlib.sha256(opened.read(MOST_BYTES + 1)).digest()
        except OSError:
            return b""

    def mentions(self, word: bytes) -> bool:
        """Return whether the file contains a word."""
        try:
            return word in self.path.read_bytes()
        except OSError:
            return False

    def changed(self) -> bool:
        """Return whether the content differs from that of the newest version."""
        return self.content() != self._seen

    def load(self) -> None:
        """Load the file for the first time.

        Raises:
            FileError: if it has an error.
        """
        folder = str(self.path.parent)
        if folder not in sys.path:
            # At the end: a module next to the file must not replace one of an installed package.
            sys.path.append(folder)
        self._load()

    def load_again(self) -> None:
        """Load the newest version, and use it for the turns that begin from now on.

        Raises:
            FileError: if it has an error. The version in force stays.
        """
        sys.modules.pop(self._next_module(), None)
        # Modules are cycles. Their data may be large: at most two versions should be in memory, besides turns' own.
        gc.collect()
        self._load()

    def current(self) -> _T:
        """Return what is served of the version in force.

        Raises:
            FileError: if no version could be loaded yet.
        """
        if self._loaded is None:
            raise FileError(self._error)
        return self._loaded

    def _load(self) -> None:
        # Read before, so that a change in the meantime is noticed later.
        self._seen = self.content()
        name = self._next_module()
        try:
            loaded = load(self.path, self._find, name)
        except FileError as error:
            # Not the exception: it refers to the frames of what could not be loaded.
            self._error = str(error)
            raise
        self._loaded, self._error, self._module = loaded, None, name

    def _next_module(self) -> str:
        return _MODULES[1 - _MODULES.index(self._module)]
