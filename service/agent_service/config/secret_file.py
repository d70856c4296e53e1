"""A setting that comes from a file of the folder of secrets, and changes with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import structlog

_log = structlog.get_logger(__name__)

T = TypeVar("T")


class SecretFile(Generic[T]):
    """Holds what a file says; what comes from elsewhere (no file) stays as it is.

    The file is read again whenever it is another one. Kubernetes replaces a mounted Secret by swapping a symbolic link
    (atomic writer of the kubelet), so a `stat` for each request sees it, and costs microseconds; no watcher can then
    lag behind or die unseen.
    """

    def __init__(self, value: T, file: Path | None, parse: Callable[[str], T]) -> None:
        """Begin with `value`. `parse` makes a value of the file's text, or raises ValueError."""
        self._value = value
        self._file = file
        self._parse = parse
        # None is no file's mark: the first request reads. Where there is no value yet, a missing file is no news.
        self._mark: tuple[int, ...] | None = None if value else ()

    def current(self) -> T:
        """Give the value to use now. A file that is gone or unusable leaves the last good one in use."""
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
                "File of a setting could not be used, kept what it was", file=str(file), reason=type(error).__name__
            )
            return
        if value != self._value:
            self._value = value
            _log.info("File of a setting had changed, took what it is now", file=str(file))
