"""A setting that is read from a file in SECRETS_DIR and follows its changes."""

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import structlog

_log = structlog.get_logger(__name__)

T = TypeVar("T")


class SecretFile(Generic[T]):
    """The value of a setting that a file holds. Without a file, the value never changes.

    The file is read again whenever its `stat` changes. Kubernetes replaces a mounted Secret by swapping a symbolic link
    (atomic writer of the kubelet), so a `stat` per request detects it, and costs microseconds. A watcher could lag
    behind or die unnoticed.
    """

    def __init__(self, value: T, file: Path | None, parse: Callable[[str], T]) -> None:
        """Start with `value`. `parse` converts the text of the file to a value, or raises ValueError."""
        self._value = value
        self._file = file
        self._parse = parse
        # None is not the mark of any file, so the first request reads the file. `()` is the mark of a missing file:
        # without an initial value, a missing file is not a change.
        self._mark: tuple[int, ...] | None = None if value else ()

    def current(self) -> T:
        """Return the current value. If the file is missing or unusable, this is the last valid one."""
        if self._file is None:
            return self._value
        try:
            seen = self._file.stat()
            mark: tuple[int, ...] = (seen.st_dev, seen.st_ino, seen.st_mtime_ns, seen.st_size)
        except OSError:
            mark = ()
        if mark != self._mark:
            self._mark = mark
            self._read(self._file)
        return self._value

    def _read(self, file: Path) -> None:
        try:
            value = self._parse(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            _log.warning(
                "File of a setting could not be used, kept the previous value",
                file=str(file),
                reason=type(error).__name__,
            )
            return
        if value != self._value:
            self._value = value
            _log.info("File of a setting changed, applied the new value", file=str(file))
